//! `source_fingerprint!()`: 128 bits over the tokens of source files.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, File, ImplItem, Item, LitStr, Meta, Result, Token, TraitItem};
use xxhash_rust::xxh3::Xxh3;

pub(crate) fn expand(input: TokenStream, caller: Option<PathBuf>) -> Result<TokenStream> {
    let here = |message: String| Error::new(Span::call_site(), message);
    let caller = caller
        .ok_or_else(|| here("the source file of this call is not known".to_owned()))?
        .canonicalize()
        .map_err(|e| here(format!("the source file of this call cannot be found: {e}")))?;
    let others =
        syn::parse::Parser::parse2(Punctuated::<LitStr, Token![,]>::parse_terminated, input)?;
    let mut paths = vec![caller.clone()];
    for other in &others {
        paths.push(beside(&caller, other)?);
    }
    let mut hash = Xxh3::new();
    let mut watched = TokenStream::new();
    for path in &paths {
        let shown = path.display();
        let source = std::fs::read_to_string(path)
            .map_err(|e| here(format!("{shown} cannot be read: {e}")))?;
        let file = syn::parse_file(&source).map_err(|e| here(format!("{shown}: {e}")))?;
        hash_code(file, &mut hash);
        let Some(path) = path.to_str() else {
            return Err(here(format!("{shown} is not UTF-8")));
        };
        // Cargo builds again when a file changes that a constant includes.
        watched.extend(quote!(
            const _: &[u8] = ::core::include_bytes!(#path);
        ));
    }
    let value = hash.digest128();
    Ok(quote!({
        #watched
        ::refold_projection::Fingerprint(#value)
    }))
}

fn beside(caller: &Path, other: &LitStr) -> Result<PathBuf> {
    let directory = caller.parent().unwrap_or(caller);
    directory
        .join(other.value())
        .canonicalize()
        .map_err(|e| Error::new_spanned(other, format!("no such file beside the caller: {e}")))
}

/// Hashes what decides how the file behaves in a build without tests.
fn hash_code(mut file: File, hash: &mut Xxh3) {
    drop_tests(&mut file.items);
    hash_tokens(file.into_token_stream(), hash);
    // Code that moves from one file to the next is not the same code.
    hash.update(b"\0end of file");
}

fn drop_tests(items: &mut Vec<Item>) {
    items.retain(|item| !item_attributes(item).iter().any(is_test));
    for item in items {
        match item {
            Item::Mod(module) => {
                if let Some((_, items)) = &mut module.content {
                    drop_tests(items);
                }
            }
            Item::Impl(block) => block
                .items
                .retain(|item| !impl_item_attributes(item).iter().any(is_test)),
            Item::Trait(block) => block
                .items
                .retain(|item| !trait_item_attributes(item).iter().any(is_test)),
            _ => {}
        }
    }
}

/// `#[cfg(test)]` and `#[test]`. A longer condition counts as code: to see a
/// change where there is none costs a new number, the reverse costs the proof.
fn is_test(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn impl_item_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

fn trait_item_attributes(item: &TraitItem) -> &[Attribute] {
    match item {
        TraitItem::Const(item) => &item.attrs,
        TraitItem::Fn(item) => &item.attrs,
        TraitItem::Type(item) => &item.attrs,
        TraitItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// Tags keep tokens of different kinds apart, lengths keep neighbours apart.
fn hash_tokens(tokens: TokenStream, hash: &mut Xxh3) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut index = 0;
    while index < tokens.len() {
        if let Some(length) = documentation(&tokens[index..]) {
            index += length;
            continue;
        }
        let last = index + 1 == tokens.len();
        match &tokens[index] {
            // A formatter adds and drops the comma before a closing bracket.
            TokenTree::Punct(mark) if mark.as_char() == ',' && last => {}
            TokenTree::Punct(mark) => {
                hash.update(match mark.spacing() {
                    Spacing::Joint => b"j",
                    Spacing::Alone => b"p",
                });
                hash_text(&mark.to_string(), hash);
            }
            TokenTree::Ident(ident) => {
                hash.update(b"i");
                hash_text(&ident.to_string(), hash);
            }
            TokenTree::Literal(literal) => {
                hash.update(b"l");
                hash_text(&literal.to_string(), hash);
            }
            TokenTree::Group(group) => hash_group(group, hash),
        }
        index += 1;
    }
}

fn hash_group(group: &Group, hash: &mut Xxh3) {
    hash.update(match group.delimiter() {
        Delimiter::Parenthesis => b"(",
        Delimiter::Brace => b"{",
        Delimiter::Bracket => b"[",
        Delimiter::None => b"_",
    });
    hash_tokens(group.stream(), hash);
    hash.update(b"e");
}

fn hash_text(text: &str, hash: &mut Xxh3) {
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

/// How many tokens `#[doc ...]` or `#![doc ...]` takes, if it comes next. A
/// comment for documentation is such an attribute by now.
fn documentation(tokens: &[TokenTree]) -> Option<usize> {
    let is =
        |token: &TokenTree, wanted| matches!(token, TokenTree::Punct(p) if p.as_char() == wanted);
    let (group, length) = match tokens {
        [hash, TokenTree::Group(group), ..] if is(hash, '#') => (group, 2),
        [hash, bang, TokenTree::Group(group), ..] if is(hash, '#') && is(bang, '!') => (group, 3),
        _ => return None,
    };
    let first = group.stream().into_iter().next()?;
    let doc = matches!(&first, TokenTree::Ident(ident) if ident == "doc");
    (doc && group.delimiter() == Delimiter::Bracket).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(source: &str) -> u128 {
        let mut hash = Xxh3::new();
        hash_code(
            syn::parse_file(source).expect("the source is Rust"),
            &mut hash,
        );
        hash.digest128()
    }

    const PLAIN: &str = "
        struct Row { balance: i64 }
        impl Row { fn fold(&self, a: &mut i64, b: i64) -> i64 { *a += b; sum(*a, b) } }
        mod inner { fn f() {} }";

    #[test]
    fn formatting_and_comments_do_not_count() {
        let formatted = "
        //! The module.
        // A comment.
        /// A row.
        #[doc = \"More.\"]
        struct Row {
            /// Cents.
            balance: i64,
        }
        /* Another comment. */
        impl Row {
            fn fold(
                &self,
                a: &mut i64,
                b: i64,
            ) -> i64 {
                //! Inside.
                *a += b; // Behind.
                sum(
                    *a,
                    b,
                )
            }
        }
        mod inner {
            fn f() {}
        }";
        assert_eq!(fingerprint(PLAIN), fingerprint(formatted));
    }

    #[test]
    fn tests_do_not_count() {
        let tested = format!(
            "{PLAIN}
            #[cfg(test)] mod tests {{ use super::*; #[test] fn t() {{}} }}
            #[cfg(test)] use std::fmt;
            #[test] fn t() {{}}
            "
        )
        .replace("fn f() {}", "fn f() {} #[cfg(test)] fn g() {}")
        .replace("impl Row {", "impl Row { #[cfg(test)] fn g() {}");
        assert_eq!(fingerprint(PLAIN), fingerprint(&tested));
    }

    #[test]
    fn every_other_change_counts() {
        for (from, to) in [
            ("balance", "amount"),
            ("balance: i64", "balance: i32"),
            ("balance: i64", "#[row(new)] balance: i64"),
            ("balance: i64", "balance: i64, status: i64"),
            ("+=", "-="),
            ("sum(*a, b)", "sum(b, *a)"),
            ("*a += b;", "*a += b; let s = \"/// no comment\";"),
            ("fn f() {}", "#[cfg(any(test, unix))] fn f() {}"),
            ("fn f() {}", ""),
        ] {
            let changed = PLAIN.replace(from, to);
            assert_ne!(changed, PLAIN);
            assert_ne!(fingerprint(PLAIN), fingerprint(&changed), "{from} -> {to}");
        }
    }

    #[test]
    fn neighbouring_tokens_are_kept_apart() {
        assert_ne!(
            fingerprint("fn a() { bc; }"),
            fingerprint("fn a() { b; c }")
        );
        assert_ne!(fingerprint("m!(a && b);"), fingerprint("m!(a & & b);"));
        assert_ne!(fingerprint("m!((a) b);"), fingerprint("m!((a b));"));
        assert_ne!(fingerprint("m!('a');"), fingerprint("m!(\"a\");"));
    }

    #[test]
    fn the_macro_names_the_files_that_it_read() {
        let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source.rs");
        let code = expand(quote!("row.rs", "../src/lib.rs"), Some(this.clone()));
        let code = code.expect("the files exist").to_string();
        assert_eq!(code.matches("include_bytes").count(), 3, "{code}");
        assert!(expand(quote!("missing.rs"), Some(this)).is_err());
        assert!(expand(quote!(), None).is_err());
    }
}
