//! `docs/compose.md`: one row for each key, from the table that the code uses.

use crate::keys::{SECTIONS, Support};

/// The whole page.
pub fn reference() -> String {
    let mut text = String::from(
        "# Keys of Compose files\n\n\
         What devenv does with each key of the Compose specification. This page is generated from the table that the code uses;\n\
         `devenv validate compose.yaml` reports the same for one file, with line and column. See also\n\
         [Coming from Docker Compose](guide/compose.md).\n\n\
         - **yes**: as Compose does it.\n\
         - **yes, but**: supported, with the difference that the table describes.\n\
         - **warning**: behaviour does not depend on it; the table says what happens instead.\n\
         - **error**: the file is refused, because what runs would differ.\n\n\
         Keys that begin with `x-` are left alone. Everything else that is not listed is an error (`unknown-field`), with the key that\n\
         was probably meant. Anchors, `<<`, `!reset`, `!override` and every form of interpolation work as in Compose.\n",
    );
    for (title, keys) in SECTIONS {
        let title = if title.is_empty() { "Top level".to_owned() } else { format!("`{}`", title.replace(", ", "`, `")) };
        text.push_str(&format!("\n## {title}\n\n| key | | |\n|---|---|---|\n"));
        for key in *keys {
            let (word, more) = match key.support {
                Support::Yes => ("yes", ""),
                Support::How(more) => ("yes, but", more),
                Support::Ignored(more) => ("warning", more),
                Support::No(more) => ("error", more),
            };
            text.push_str(&format!("| `{}` | {word} | {} |\n", key.name, more.replace('|', "\\|")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_page_of_keys_agrees_with_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
        let wanted = super::reference();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == wanted, "docs/compose.md is stale: run this test with UPDATE=1");
    }
}
