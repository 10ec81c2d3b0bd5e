//! PURE: what one statement of SQL means for the transaction around it, from its words.

/// What a statement does to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// `BEGIN` with nothing special about it.
    Begin,
    /// `COMMIT` with nothing special about it.
    Commit,
    /// Any other word that steers a transaction.
    Control,
    /// Refused by the server inside of a transaction.
    Alone,
    /// Means something else in one transaction than in a transaction of its own: its effect ends with the transaction.
    Local,
}

/// `words` are the unquoted words outside of parentheses, in capitals; `text` is how the statement begins.
pub(super) fn classify(words: &[&str], text: &str) -> Kind {
    let has = |word: &str| words.contains(&word);
    match words {
        ["BEGIN"] | ["BEGIN" | "START", "TRANSACTION"] | ["BEGIN", "WORK"] => Kind::Begin,
        ["COMMIT" | "END"] | ["COMMIT" | "END", "TRANSACTION" | "WORK"] => Kind::Commit,
        ["ROLLBACK", rest @ ..] if rest.contains(&"TO") => Kind::Ordinary,
        ["BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] | ["START" | "PREPARE", "TRANSACTION", ..] => Kind::Control,
        ["VACUUM", ..]
        | ["CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", ..]
        | ["ALTER", "SYSTEM", ..]
        | ["DISCARD", "ALL"]
        | ["CLUSTER"]
        | ["REINDEX", "DATABASE" | "SYSTEM" | "SCHEMA", ..] => Kind::Alone,
        ["ALTER", "DATABASE", ..] if has("TABLESPACE") => Kind::Alone,
        ["CREATE" | "DROP" | "REINDEX" | "ALTER", ..] if has("CONCURRENTLY") => Kind::Alone,
        ["SET", "LOCAL" | "CONSTRAINTS" | "TRANSACTION", ..] => Kind::Local,
        ["CREATE", .., "ON", "COMMIT", "DROP"] => Kind::Local,
        ["CREATE", ..] if words.windows(3).any(|three| matches!(three, ["ON", "COMMIT", "DROP" | "DELETE"])) => Kind::Local,
        ["SELECT", ..] if sets_locally(text) => Kind::Local,
        _ => Kind::Ordinary,
    }
}

/// Whether a text is, or a literal in it begins with, a statement that steers a transaction: what `\gexec` or a variable of psql runs.
pub(super) fn writes_control(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let begins = |text: &str| {
        if !text.trim_start().starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return false;
        }
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("ROLLBACK"), next) => next != Some("TO"),
            (Some("START" | "PREPARE"), next) => next == Some("TRANSACTION"),
            (first, _) => matches!(first, Some("BEGIN" | "COMMIT" | "END" | "ABORT")),
        }
    };
    begins(&upper) || upper.match_indices(['\'', '$']).any(|(at, _)| begins(&upper[at + 1..]))
}

/// Whether rows for it follow on the next lines.
pub(super) fn takes_rows(words: &[&str]) -> bool {
    words.first() == Some(&"COPY") && words.windows(2).any(|pair| pair == ["FROM", "STDIN"])
}

/// `set_config('search_path', 'x', true)`.
fn sets_locally(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.match_indices("set_config").any(|(at, _)| {
        let call = &text[at..];
        let call = &call[..call.find(')').unwrap_or(call.len())];
        call.rsplit(',').next().is_some_and(|last| ["true", "'t'", "'true'", "'on'"].contains(&last.trim()))
    })
}

/// The value that a statement gives to a setting of the session: `None` if it does not touch it, an empty text for its default.
pub(super) fn setting(text: &str, name: &str) -> Option<String> {
    let text = text.trim().trim_end_matches(';').trim();
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_whitespace();
    match words.next()? {
        "reset" => words.next().filter(|other| *other == name || *other == "all").map(|_| String::new()),
        "set" => {
            let rest = text[3..].trim_start();
            let rest = ["session ", "local "].iter().find_map(|scope| strip(rest, scope)).unwrap_or(rest).trim_start();
            let rest = match strip(rest, name) {
                Some(rest) => rest.trim_start(),
                None if name == "client_encoding" => return strip(rest, "names ").map(unquoted),
                None => return None,
            };
            let value = rest.strip_prefix('=').or_else(|| strip(rest, "to ")).or_else(|| strip(rest, "to'").map(|_| &rest[2..]))?;
            Some(unquoted(value))
        }
        _ if lower.contains("set_config") => {
            let at = lower.find(&format!("'{name}'"))? + name.len() + 2;
            let value = text[at..].trim_start().strip_prefix(',')?.trim_start().strip_prefix('\'')?;
            Some(value[..value.find('\'')?].to_owned())
        }
        _ => None,
    }
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

fn unquoted(value: &str) -> String {
    let value = value.trim().trim_matches(['\'', '"']);
    if value.eq_ignore_ascii_case("default") { String::new() } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_steers_a_transaction_when_it_is_run_is_found() {
        for (text, wanted) in [
            ("SELECT 'COMMIT'", true),
            ("select ' rollback;' where true", true),
            ("SELECT format('BEGIN; DROP TABLE %I', t) FROM x", true),
            ("SELECT $$start transaction$$", true),
            ("commit;", true),
            ("SELECT 'ROLLBACK TO s'", false),
            ("SELECT begin FROM t", false),
            ("SELECT format('CREATE TRIGGER x EXECUTE FUNCTION f(%L)', 'commits')", false),
            ("SELECT 'START' || x", false),
        ] {
            assert_eq!(writes_control(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_setting_is_read_from_every_way_of_writing_it() {
        for (text, wanted) in [
            ("SET standard_conforming_strings = off;", Some("off")),
            ("set  Standard_Conforming_Strings to 'off'", Some("off")),
            ("SET SESSION standard_conforming_strings=on;", Some("on")),
            ("SET LOCAL standard_conforming_strings TO DEFAULT", Some("")),
            ("RESET standard_conforming_strings", Some("")),
            ("RESET ALL", Some("")),
            ("SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);", Some("off")),
            ("SET search_path = ''", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(setting(text, "standard_conforming_strings").as_deref(), wanted, "{text}");
        }
        assert_eq!(setting("SET NAMES 'SJIS';", "client_encoding").as_deref(), Some("SJIS"));
        assert_eq!(setting("SET client_encoding TO latin1", "client_encoding").as_deref(), Some("latin1"));
    }

    #[test]
    fn the_effect_of_a_statement_on_its_transaction_is_known_by_its_keywords() {
        for (text, wanted) in [
            ("BEGIN", Kind::Begin),
            ("START TRANSACTION", Kind::Begin),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", Kind::Control),
            ("END", Kind::Commit),
            ("COMMIT AND CHAIN", Kind::Control),
            ("COMMIT PREPARED", Kind::Control),
            ("PREPARE TRANSACTION", Kind::Control),
            ("PREPARE PLAN AS SELECT", Kind::Ordinary),
            ("ROLLBACK TO SAVEPOINT A", Kind::Ordinary),
            ("ABORT", Kind::Control),
            ("DISCARD ALL", Kind::Alone),
            ("DISCARD TEMP", Kind::Ordinary),
            ("REFRESH MATERIALIZED VIEW CONCURRENTLY V", Kind::Ordinary),
            ("ALTER TABLE T DETACH PARTITION P CONCURRENTLY", Kind::Alone),
            ("SET LOCAL SEARCH_PATH TO A", Kind::Local),
            ("CREATE TEMP TABLE T ON COMMIT DROP", Kind::Local),
            ("CREATE TEMP TABLE T ON COMMIT DELETE ROWS", Kind::Local),
            ("CREATE TEMP TABLE T ON COMMIT PRESERVE ROWS", Kind::Ordinary),
        ] {
            assert_eq!(classify(&text.split(' ').collect::<Vec<_>>(), text), wanted, "{text}");
        }
        let select = |text: &str| classify(&["SELECT", "SET_CONFIG"], text);
        assert_eq!(select("SELECT pg_catalog.set_config('search_path', '', false)"), Kind::Ordinary);
        assert_eq!(select("SELECT set_config('search_path', 'a', TRUE)"), Kind::Local);
    }
}
