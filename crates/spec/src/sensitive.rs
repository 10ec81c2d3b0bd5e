//! Recognises secrets of the user by name or form. Pure.
//!
//! Variables that users give (in a profile, an env file or a shell) become templates here: a value whose name sounds like a
//! secret, a password in a URL and `${secret:NAME}` are treated like generated secrets, and masked wherever text is shown.

use std::ops::Range;

pub use crate::template::MASK;
use crate::{SecretRef, Template};

/// The directory of the vault that holds the secrets a profile declares; no service can have this name.
const DECLARED: &str = "_profile";
/// Unicode noncharacters around the name of a declared secret in an interpolated text.
const OPENING: char = '\u{fdd0}';
const CLOSING: char = '\u{fdd1}';

/// Parts of the names of variables that hold secrets.
const WORDS: &[&str] = &["KEY", "PASS", "PWD", "DSN", "AUTH", "TOKEN", "SECRET", "CREDENTIAL"];
/// Names that contain such a part but hold no secret.
const HARMLESS: &[&str] = &["PWD", "OLDPWD", "SSH_AUTH_SOCK", "XAUTHORITY"];

/// Whether the value of a variable with this name is secret.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    !HARMLESS.contains(&name.as_str()) && WORDS.iter().any(|word| name.contains(word))
}

/// The ranges in bytes of what precedes the host in URLs, up to the `@`. `ends`: what ends the part of a URL with the host.
fn users_of_urls<'a>(text: &'a str, ends: &'a [char]) -> impl Iterator<Item = Range<usize>> + 'a {
    text.match_indices("://").filter_map(move |(scheme, mark)| {
        let start = scheme + mark.len();
        let rest = &text[start..];
        let authority = &rest[..rest.find(ends).unwrap_or(rest.len())];
        authority.rfind('@').map(|at| start..start + at)
    })
}

/// The range in bytes of the password of the first URL that has one.
pub fn password_of_url(text: &str) -> Option<(usize, usize)> {
    // Sentry's form has the key before the `@`, without a password.
    users_of_urls(text, &['/', '?', '#', ' ', '\n', '"', '\'']).find_map(|user| {
        let password = user.start + text[user.clone()].find(':')? + 1;
        (password < user.end).then_some((password, user.end))
    })
}

/// The text with all that precedes the host in its URLs masked: a token may stand in the place of a user. The user of SSH is none.
pub fn masked_credentials(text: &str) -> String {
    let (mut out, mut shown) = (String::with_capacity(text.len()), 0);
    for user in users_of_urls(text, &['/', '#', ' ', '\n', '"', '\'', '`']) {
        if !text[..user.start].ends_with("ssh://") {
            out.extend([&text[shown..user.start], MASK]);
            shown = user.end;
        }
    }
    out + &text[shown..]
}

/// The text with the passwords of its URLs masked.
pub fn masked_urls(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((start, end)) = password_of_url(rest) {
        out.push_str(&rest[..start]);
        out.push_str(MASK);
        rest = &rest[end..];
    }
    out + rest
}

/// The value as it may be shown.
pub fn masked(name: &str, value: &str) -> String {
    if sounds_secret(name) && !value.is_empty() { MASK.to_owned() } else { masked_urls(&named(value)) }
}

/// The placeholder in a text for the secret of that name.
pub fn declared_mark(name: &str) -> String {
    format!("{OPENING}{name}{CLOSING}")
}

/// The secret of a profile's `secrets` field.
pub fn declared(name: &str) -> SecretRef {
    SecretRef::new(DECLARED, name)
}

/// The names of the declared secrets that a text refers to.
pub fn declared_in(text: &str) -> Vec<&str> {
    let marks = text.split(OPENING).skip(1);
    marks.filter_map(|rest| rest.split_once(CLOSING).map(|(name, _)| name)).collect()
}

/// The text with its declared secrets as a profile writes them.
pub fn named(text: &str) -> String {
    if !text.contains(OPENING) {
        return text.to_owned();
    }
    declared_in(text).into_iter().fold(text.to_owned(), |text, name| text.replace(&declared_mark(name), &format!("${{secret:{name}}}")))
}

impl Template {
    /// The value of a variable as a user gave it, with the secret parts marked.
    pub fn given(name: &str, value: &str) -> Self {
        if value.is_empty() {
            return Self::text(value);
        }
        let mut template = Self::default();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once(OPENING) {
            let Some((secret, after)) = after.split_once(CLOSING) else { break };
            template = template.then_given(name, before).then_secret(declared(secret));
            rest = after;
        }
        template.then_given(name, rest)
    }

    fn then_given(self, name: &str, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        if sounds_secret(name) {
            return self.then_sensitive(text);
        }
        let (mut template, mut rest) = (self, text);
        while let Some((start, end)) = password_of_url(rest) {
            template = template.then(&rest[..start]).then_sensitive(&rest[start..end]);
            rest = &rest[end..];
        }
        if rest.is_empty() { template } else { template.then(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_and_those_of_directories_are_not_among_them() {
        for name in ["STRIPE_KEY", "db_password", "SENTRY_DSN", "BASIC_AUTH", "apiToken", "SMTP_PASS", "CREDENTIALS_JSON", "DB_PWD"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["PWD", "OLDPWD", "PORT", "DATABASE_URL", "SSH_AUTH_SOCK"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }

    #[test]
    fn no_token_of_an_address_is_shown() {
        for (text, shown) in [
            ("https://u:t@example.org/a.git#main", "https://********@example.org/a.git#main"),
            ("cannot access 'https://token@example.org/a.git/': 403", "cannot access 'https://********@example.org/a.git/': 403"),
            ("ssh://git@example.org/a and https://x@h/b", "ssh://git@example.org/a and https://********@h/b"),
            ("git@example.org:team/a.git", "git@example.org:team/a.git"),
            ("https://example.org/a@b.git", "https://example.org/a@b.git"),
        ] {
            assert_eq!(masked_credentials(text), shown);
        }
    }

    #[test]
    fn only_the_password_of_a_url_is_masked() {
        for (text, shown) in [
            ("postgres://u:p@h/x", "postgres://u:********@h/x"),
            ("postgres://u:p@ss@h:1/x y://a:b@c", "postgres://u:********@h:1/x y://a:********@c"),
            ("http://h:8080/a:b@c", "http://h:8080/a:b@c"),
            ("redis://:secret@h", "redis://:********@h"),
            ("https://key@sentry.io/1", "https://key@sentry.io/1"),
            ("a:b@c", "a:b@c"),
        ] {
            assert_eq!(masked("OTHER_URL", text), shown, "{text}");
        }
        assert_eq!(masked("API_KEY", "x"), MASK);
        assert_eq!(masked("API_KEY", ""), "");
    }

    #[test]
    fn a_value_that_a_user_gave_holds_a_secret_where_it_says_so() {
        let text = |template: &Template| template.fill(|secret| format!("<{secret}>"));
        for (name, value, shown, filled) in [
            ("PORT", "80", "80", "80"),
            ("TOKEN", "abc", MASK, "abc"),
            ("OTHER_URL", "amqp://a:b@c/d", "amqp://a:********@c/d", "amqp://a:b@c/d"),
            ("LINE", "x \u{fdd0}STRIPE\u{fdd1} y", "x ******** y", "x <_profile/STRIPE> y"),
            ("EMPTY", "", "", ""),
        ] {
            let template = Template::given(name, value);
            assert_eq!((template.redacted().as_str(), text(&template).as_str()), (shown, filled), "{name}");
            assert_eq!(template.holds_secret(), shown.contains(MASK), "{name}");
        }
        assert_eq!(declared_in("\u{fdd0}A\u{fdd1}-\u{fdd0}B\u{fdd1}"), ["A", "B"]);
        assert_eq!(named("x \u{fdd0}A\u{fdd1}"), "x ${secret:A}");
    }
}
