//! "Did you mean": the known word that is nearest to an unknown one.

/// Limits on the words that are compared and suggested.
const MOST: usize = 200;

/// The nearest of `known`, if it is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .take(MOST)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowance(&lower, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?``
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|found| format!("did you mean `{found}`?"))
}

/// `` `a`, `b` or `c` ``
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "or")
}

/// `` `a`, `b` and `c` ``
pub fn all_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words, "and")
}

fn joined<'a>(words: impl IntoIterator<Item = &'a str>, last_by: &str) -> String {
    let quoted: Vec<String> = words.into_iter().take(MOST).map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} {last_by} {last}", others.join(", ")),
    }
}

/// About a third of the word may be wrong, or the word may be the beginning of a longer one.
fn allowance(word: &str, candidate: &str) -> usize {
    let length = word.chars().count().max(candidate.chars().count());
    let prefix = word.len() >= 3 && candidate.to_lowercase().starts_with(word);
    if prefix { length } else { (length / 3).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_understood_and_another_word_is_not() {
        let known = ["maxmemory", "policy", "persistence", "db", "postgres"];
        for (word, meant) in [
            ("maxmemroy", Some("maxmemory")),
            ("Policy", Some("policy")),
            ("dbb", Some("db")),
            ("postgre", Some("postgres")),
            ("pers", Some("persistence")),
            ("volumes", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
