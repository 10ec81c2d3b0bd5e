//! PURE: additional contexts of a build: directories and images that a Dockerfile names as it names its own stages.
//!
//! No builder takes them through the engine's interface. So a directory becomes an image that has only its files, and the
//! Dockerfile gets the image's name in place of the context's.

use std::{collections::BTreeMap, path::Path};

/// An additional context, as a profile writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdditionalContext<'a> {
    Directory(&'a Path),
    Image(&'a str),
}

impl<'a> AdditionalContext<'a> {
    /// `None` for others, such as an address of a Git repository.
    pub fn parse(value: &'a str) -> Option<Self> {
        match value.strip_prefix("docker-image://") {
            Some(image) => Some(Self::Image(image)),
            None => value.starts_with('/').then(|| Self::Directory(Path::new(value))),
        }
    }
}

/// The Dockerfile with these images in place of the contexts that it names: after `FROM`, in `--from=` and in mounts of `RUN`.
/// Lines keep their numbers.
pub fn with_images(dockerfile: &str, images: &BTreeMap<String, String>) -> String {
    if images.is_empty() {
        return dockerfile.to_owned();
    }
    dockerfile.split_inclusive('\n').map(|line| line_with_images(line, images)).collect()
}

fn line_with_images(line: &str, images: &BTreeMap<String, String>) -> String {
    let is_from = line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("from"));
    let mut named = !is_from;
    let mut text = String::with_capacity(line.len());
    for (index, piece) in line.split_inclusive(char::is_whitespace).enumerate() {
        let word = piece.trim_end();
        let (space, is_first) = (&piece[word.len()..], index == 0 || text.trim().is_empty());
        let is_name = !named && !is_first && !word.is_empty() && !word.starts_with("--");
        named |= is_name;
        let replaced = if is_name { images.get(word).cloned() } else { option_with_images(word, images) };
        text.push_str(replaced.as_deref().unwrap_or(word));
        text.push_str(space);
    }
    text
}

/// `--from=NAME`, or `--mount=type=bind,from=NAME,…`.
fn option_with_images(word: &str, images: &BTreeMap<String, String>) -> Option<String> {
    if let Some(name) = word.strip_prefix("--from=") {
        return images.get(name).map(|image| format!("--from={image}"));
    }
    let parts = word.strip_prefix("--mount=")?.split(',').map(|part| {
        let image = part.strip_prefix("from=").and_then(|name| images.get(name));
        image.map_or_else(|| part.to_owned(), |image| format!("from={image}"))
    });
    Some(format!("--mount={}", parts.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_gets_images_in_place_of_the_contexts_that_it_names() {
        let images = BTreeMap::from([("assets".to_owned(), "made:1".to_owned()), ("base".to_owned(), "alpine:3".to_owned())]);
        let text = "# FROM base\nFROM --platform=linux/amd64 base AS base2\n  copy --chown=1:1 --from=assets /a /b\n\
                    COPY base assets\nRUN --mount=type=bind,from=assets,target=/x cat base\nFROM other AS base\nfrom\tassets\n";
        let expected = "# FROM base\nFROM --platform=linux/amd64 alpine:3 AS base2\n  copy --chown=1:1 --from=made:1 /a /b\n\
                        COPY base assets\nRUN --mount=type=bind,from=made:1,target=/x cat base\nFROM other AS base\nfrom\tmade:1\n";
        assert_eq!(with_images(text, &images), expected);
        assert_eq!(with_images(text, &BTreeMap::new()), text);
    }

    #[test]
    fn directories_and_images_are_additional_contexts_and_addresses_are_not() {
        assert_eq!(AdditionalContext::parse("/srv/assets"), Some(AdditionalContext::Directory(Path::new("/srv/assets"))));
        assert_eq!(AdditionalContext::parse("docker-image://alpine:3"), Some(AdditionalContext::Image("alpine:3")));
        assert_eq!(AdditionalContext::parse("https://example.org/a.git"), None);
    }
}
