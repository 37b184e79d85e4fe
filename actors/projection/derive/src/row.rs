//! `#[derive(Row)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericArgument, PathArguments, Result, Type};

use crate::column_name;

/// What the attributes of one field say.
#[derive(Default)]
struct Marks {
    new: bool,
    differs: bool,
    text: bool,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let fields = named_fields(input)?;
    let mut columns = TokenStream::new();
    let mut encode = TokenStream::new();
    let mut decode = TokenStream::new();
    let mut heap = TokenStream::new();
    for field in fields {
        let Some(ident) = &field.ident else {
            return Err(Error::new_spanned(field, "a column needs a name"));
        };
        let marks = marks(field)?;
        refuse_floats(&field.ty)?;
        let label = ident.unraw().to_string();
        column_name::check(&label).map_err(|reason| Error::new_spanned(ident, reason))?;
        let compare = match (marks.new, marks.differs) {
            (true, _) => quote!(New),
            (_, true) => quote!(Differs),
            _ => quote!(Same),
        };
        let ty = &field.ty;
        // Errors about the type of a column point at the type of the field.
        let span = ty.span();
        let (sql, nullable) = if marks.text {
            (
                quote!(::refold_projection::ColumnType::Text),
                quote::quote_spanned!(span=> <#ty as ::refold_projection::TextCell>::NULLABLE),
            )
        } else {
            (
                quote::quote_spanned!(span=> <#ty as ::refold_projection::CellValue>::TYPE),
                quote::quote_spanned!(span=> <#ty as ::refold_projection::CellValue>::NULLABLE),
            )
        };
        columns.extend(quote! {
            ::refold_projection::Column {
                name: #label,
                ty: #sql,
                nullable: #nullable,
                compare: ::refold_projection::Compare::#compare,
            },
        });
        if marks.text {
            encode.extend(quote!(::refold_projection::TextCell::write_text(&self.#ident, out);));
            decode.extend(quote!(#ident: ::refold_projection::TextCell::read_text(cells)?,));
        } else {
            encode.extend(quote!(::refold_projection::CellValue::write(&self.#ident, out);));
            decode.extend(quote!(#ident: ::refold_projection::CellValue::read(cells)?,));
            heap.extend(quote!(+ ::refold_projection::CellValue::heap_bytes(&self.#ident)));
        }
    }
    Ok(quote! {
        #[automatically_derived]
        impl ::refold_projection::Row for #name {
            const COLUMNS: &'static [::refold_projection::Column] = &[#columns];

            #[inline]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                #encode
            }

            fn decode(
                cells: &mut ::refold_projection::cell::CellReader<'_>,
            ) -> ::std::result::Result<Self, ::refold_projection::cell::CellError> {
                ::std::result::Result::Ok(Self { #decode })
            }

            #[inline]
            fn heap_bytes(&self) -> usize {
                0 #heap
            }
        }
    })
}

fn named_fields(input: &DeriveInput) -> Result<impl Iterator<Item = &Field>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a row is a struct: its fields are the columns of the table",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a row cannot be generic: it is the schema of one table",
        ));
    }
    match &data.fields {
        Fields::Named(fields) if !fields.named.is_empty() => Ok(fields.named.iter()),
        Fields::Named(_) | Fields::Unit => Err(Error::new_spanned(
            &input.ident,
            "a row needs at least one field: its fields are the columns of the table",
        )),
        Fields::Unnamed(fields) => Err(Error::new_spanned(
            fields,
            "a row needs named fields: their names are the names of the columns",
        )),
    }
}

fn marks(field: &Field) -> Result<Marks> {
    let mut marks = Marks::default();
    for attribute in &field.attrs {
        if !attribute.path().is_ident("row") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            let mark = if meta.path.is_ident("new") {
                &mut marks.new
            } else if meta.path.is_ident("differs") {
                &mut marks.differs
            } else if meta.path.is_ident("text") {
                &mut marks.text
            } else {
                return Err(meta.error("unknown attribute (known: new, differs, text)"));
            };
            if std::mem::replace(mark, true) {
                return Err(meta.error("said twice"));
            }
            Ok(())
        })?;
    }
    if marks.new && marks.differs {
        return Err(Error::new_spanned(
            field,
            "a column is either new or differs from the version before, not both",
        ));
    }
    Ok(marks)
}

/// Looks into `Option<f64>`, `Vec<f32>` and the like too.
fn refuse_floats(ty: &Type) -> Result<()> {
    let Type::Path(path) = ty else {
        return Ok(());
    };
    for segment in &path.path.segments {
        if segment.ident == "f32" || segment.ident == "f64" {
            return Err(Error::new_spanned(
                ty,
                "a column cannot be a float: the sum of floats depends on their order, so two \
                 replays of one log could differ; use i64 of the smallest unit, or Numeric",
            ));
        }
        if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
            for argument in &arguments.args {
                if let GenericArgument::Type(inner) = argument {
                    refuse_floats(inner)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        let input = syn::parse_str(source).expect("the source is Rust");
        expand(&input).expect_err(source).to_string()
    }

    #[test]
    fn a_struct_of_plain_fields_needs_no_attributes() {
        let input = syn::parse_str("struct A { balance: i64, r#type: Option<String> }")
            .expect("the source is Rust");
        let code = expand(&input).expect("it is a row").to_string();
        assert!(code.contains("name : \"balance\""), "{code}");
        assert!(code.contains("name : \"type\""), "{code}");
    }

    #[test]
    fn floats_are_refused_with_the_reason() {
        for ty in [
            "f64",
            "Option<f32>",
            "std::primitive::f64",
            "Vec<Option<f64>>",
        ] {
            let message = refused(&format!("struct A {{ rate: {ty} }}"));
            assert!(message.contains("depends on their order"), "{message}");
        }
    }

    #[test]
    fn only_structs_with_named_fields_are_rows() {
        assert!(refused("struct A(i64);").contains("named fields"));
        assert!(refused("struct A;").contains("at least one field"));
        assert!(refused("struct A {}").contains("at least one field"));
        assert!(refused("enum A { B }").contains("is a struct"));
        assert!(refused("struct A<T> { a: T }").contains("cannot be generic"));
        assert!(refused("struct A<'a> { a: &'a str }").contains("cannot be generic"));
    }

    #[test]
    fn attributes_are_checked() {
        let field = |attributes: &str| refused(&format!("struct A {{ {attributes} a: i64 }}"));
        assert!(field("#[row(renamed)]").contains("known: new, differs, text"));
        assert!(field("#[row(new, differs)]").contains("not both"));
        assert!(field("#[row(new)] #[row(new)]").contains("twice"));
        assert!(field("#[row]").contains("expected attribute arguments"));
    }

    #[test]
    fn column_names_are_checked() {
        assert!(refused("struct A { off: i64 }").contains("belongs to the engine"));
        assert!(refused("struct A { _a: i64 }").contains("not a column name"));
    }
}
