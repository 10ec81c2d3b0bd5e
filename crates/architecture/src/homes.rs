//! Inherent methods outside of their type's module: a type whose methods are in several modules belongs to none.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, Type};

/// The inherent `impl` blocks of a crate that are in another top-level module than their type, as `file: impl Type`.
pub fn away_from_home(files: &BTreeMap<String, String>) -> syn::Result<Vec<String>> {
    let parsed: Vec<(&String, syn::File)> =
        files.iter().map(|(name, text)| Ok((name, syn::parse_file(text)?))).collect::<syn::Result<_>>()?;
    let mut homes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (name, file) in &parsed {
        walk(&file.items, &mut |item| {
            let defined = match item {
                Item::Struct(item) => &item.ident,
                Item::Enum(item) => &item.ident,
                _ => return,
            };
            homes.entry(defined.to_string()).or_default().insert(room(name));
        });
    }
    let mut found = Vec::new();
    for (name, file) in &parsed {
        walk(&file.items, &mut |item| {
            let Item::Impl(block) = item else { return };
            let (None, Type::Path(path)) = (&block.trait_, &*block.self_ty) else { return };
            let Some(last) = path.path.segments.last() else { return };
            let of = last.ident.to_string();
            // A name that several modules have is that of a type in this one, or the compiler would refuse it.
            if homes.get(&of).is_some_and(|rooms| !rooms.contains(room(name))) {
                found.push(format!("{name}: impl {of}"));
            }
        });
    }
    Ok(found)
}

/// The top-level module that a file belongs to.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// All items, including those of inline modules, except tests.
fn walk(items: &[Item], see: &mut impl FnMut(&Item)) {
    for item in items {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    walk(items, see);
                }
            }
            item => see(item),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test"))
}
