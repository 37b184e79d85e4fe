//! `#[derive(TextValue)]`.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result, Variant};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "only an enum is a closed set of names",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a set of names cannot be generic",
        ));
    }
    let mut taken = HashSet::new();
    let mut to_text = TokenStream::new();
    let mut from_text = TokenStream::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                variant,
                "a variant with fields cannot be stored as a name",
            ));
        }
        let name = stored_name(variant)?;
        if !taken.insert(name.clone()) {
            let message = format!("two variants are stored as {name:?}");
            return Err(Error::new_spanned(variant, message));
        }
        let ident = &variant.ident;
        to_text.extend(quote!(Self::#ident => #name,));
        from_text.extend(quote!(#name => ::std::option::Option::Some(Self::#ident),));
    }
    if taken.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            "an enum without variants has no values to store",
        ));
    }
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl ::refold_projection::TextValue for #name {
            fn as_text(&self) -> &str {
                match self { #to_text }
            }

            fn from_text(text: &str) -> ::std::option::Option<Self> {
                match text {
                    #from_text
                    _ => ::std::option::Option::None,
                }
            }
        }
    })
}

fn stored_name(variant: &Variant) -> Result<String> {
    let mut name = None;
    for attribute in &variant.attrs {
        if !attribute.path().is_ident("text") {
            continue;
        }
        let literal: LitStr = attribute.parse_args()?;
        if literal.value().contains('\0') {
            return Err(Error::new_spanned(literal, "text cannot hold NUL"));
        }
        if name.replace(literal.value()).is_some() {
            return Err(Error::new_spanned(attribute, "named twice"));
        }
    }
    Ok(name.unwrap_or_else(|| snake_case(&variant.ident.unraw().to_string())))
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> Result<String> {
        expand(&syn::parse_str(source)?).map(|code| code.to_string())
    }

    #[test]
    fn variants_are_stored_in_snake_case_or_as_told() {
        let code = code("enum A { InTransit, #[text(\"LOST!\")] Lost }").expect("it is valid");
        assert!(
            code.contains("Self :: InTransit => \"in_transit\""),
            "{code}"
        );
        assert!(code.contains("Self :: Lost => \"LOST!\""), "{code}");
    }

    #[test]
    fn what_is_no_closed_set_of_names_is_refused() {
        for (source, reason) in [
            ("struct A;", "only an enum"),
            ("enum A {}", "without variants"),
            ("enum A { B(i64) }", "with fields"),
            ("enum A<T> { B(T) }", "generic"),
            ("enum A { B, #[text(\"b\")] C }", "two variants"),
        ] {
            let message = code(source).expect_err(source).to_string();
            assert!(message.contains(reason), "{message}");
        }
    }
}
