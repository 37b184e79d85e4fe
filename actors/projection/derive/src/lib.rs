//! The macros of `refold-projection`, which re-exports them.

mod column_name;
mod row;
mod source;
mod text_value;

use proc_macro::TokenStream;

/// Derives `Row` for a struct with named fields: each field is a column of the
/// field's name and type, in the order of the struct.
///
/// | on a field | meaning |
/// |---|---|
/// | nothing | the version before has the column too, with equal values |
/// | `#[row(new)]` | the version before does not have the column |
/// | `#[row(differs)]` | the version before has it and may disagree |
/// | `#[row(text)]` | an enum that implements `TextValue`, stored as text |
///
/// A column's name is `[a-z][a-z0-9_]{0,30}` and none of the names that the
/// engine gives to its own columns.
#[proc_macro_derive(Row, attributes(row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    row::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives `TextValue` for an enum whose variants have no fields. A variant is
/// stored as its name in `snake_case`, or as what `#[text("...")]` says.
#[proc_macro_derive(TextValue, attributes(text))]
pub fn derive_text_value(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    text_value::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// The fingerprint of the source file that holds the call, as a constant
/// expression of type `Fingerprint`.
///
/// Comments, white space, documentation and everything under `#[cfg(test)]` do
/// not count; all other code of the file does. Code in further files takes part
/// when they are named, relative to the calling file:
/// `source_fingerprint!("event.rs")`.
#[proc_macro]
pub fn source_fingerprint(input: TokenStream) -> TokenStream {
    source::expand(input.into(), proc_macro::Span::call_site().local_file())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
