//! The address of a Git repository, as the context of a build names one: `URL#REFERENCE:DIRECTORY`. Pure.

/// A Git repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// As Git takes it.
    pub url: String,
    /// A branch, a tag or a commit; the default branch if there is none.
    pub reference: Option<String>,
    /// A directory of the repository; the whole repository if there is none.
    pub directory: Option<String>,
}

impl Repository {
    /// None for everything else, such as a path. An address over HTTP ends with `.git`: others are no repositories, as for Docker.
    pub fn parse(text: &str) -> Option<Self> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
        let web = url.starts_with("http://") || url.starts_with("https://");
        let known = ["git://", "ssh://", "git@"].iter().any(|prefix| url.starts_with(prefix)) || text.starts_with("github.com/");
        let known = known || web && url.ends_with(".git");
        if !known || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let directory = directory.trim_matches('/');
        let unsafe_reference = reference.starts_with('-') || reference.chars().any(|c| c.is_whitespace() || c.is_control());
        if unsafe_reference || directory.split('/').any(|part| part == "..") {
            return None;
        }
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Self { url, reference: given(reference), directory: given(directory) })
    }
}

#[cfg(test)]
mod tests {
    use super::Repository;

    #[test]
    fn addresses_of_repositories_are_told_from_paths_and_downloads() {
        let shown = |text: &str| {
            let Repository { url, reference, directory } = Repository::parse(text)?;
            Some(format!("{url} {} {}", reference.unwrap_or_default(), directory.unwrap_or_default()))
        };
        for (text, expected) in [
            ("https://github.com/docker/compose.git", Some("https://github.com/docker/compose.git  ")),
            ("https://example.org/a.git#v1.2:docker/web/", Some("https://example.org/a.git v1.2 docker/web")),
            ("git@example.org:team/a.git#:web", Some("git@example.org:team/a.git  web")),
            ("ssh://git@example.org/a#main", Some("ssh://git@example.org/a main ")),
            ("github.com/docker/compose#main", Some("https://github.com/docker/compose main ")),
            ("git://127.0.0.1:9418/a", Some("git://127.0.0.1:9418/a  ")),
            ("https://example.org/context.tar.gz", None),
            ("./web", None),
            ("/srv/a.git", None),
            ("file:///srv/a.git", None),
            ("ext::sh -c id", None),
            ("https://example.org/a.git#--upload-pack=id", None),
            ("https://example.org/a.git#main:../../etc", None),
            ("https://example.org/a b.git", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }
}
