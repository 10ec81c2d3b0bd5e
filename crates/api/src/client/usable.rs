//! Checks the names and values of variables from the daemon before a shell or a program gets them.
//!
//! `devenv env` prints variables for `eval` and `devenv run` starts programs with them, so a name that is shell code or a
//! value that makes every program load a library would be a way to run code.

use indexmap::IndexMap;

use super::ClientError;

/// Variables that make every program or shell run code that the variable names.
const LOADING: &[&str] = &["BASHOPTS", "BASH_ENV", "IFS", "LD_AUDIT", "LD_PRELOAD", "PROMPT_COMMAND", "PS4", "SHELLOPTS"];

/// Refuses all variables if one is not safe.
pub(crate) fn check<V>(variables: &IndexMap<String, V>, value: impl Fn(&V) -> &str) -> Result<(), ClientError> {
    for (name, variable) in variables {
        if let Some(reason) = unusable(name, value(variable)) {
            return Err(ClientError::Unexpected { detail: format!("the variable `{}` {reason}", name.escape_debug()) });
        }
    }
    Ok(())
}

/// Why a shell or a program must not get the variable, if it must not.
pub fn unusable(name: &str, value: &str) -> Option<&'static str> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
        return Some("has a name that is not made of letters, digits and `_`");
    }
    if LOADING.contains(&name) {
        return Some("makes programs load code; set it in your own shell, or in the `environment` of one service");
    }
    value.contains('\0').then_some("has a zero byte in its value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_code_and_variables_that_load_code_are_refused() {
        for (name, value) in [("A;id;B", ""), ("A B", ""), ("1A", ""), ("", ""), ("Ä", ""), ("LD_PRELOAD", "/tmp/x.so"), ("A", "x\0y")] {
            let variables = IndexMap::from([(name.to_owned(), value.to_owned())]);
            assert!(check(&variables, String::as_str).is_err(), "{name}={value}");
        }
        let fine = IndexMap::from([("DATABASE_URL".to_owned(), "postgres://a'b\n\"$x".to_owned()), ("_a1".to_owned(), String::new())]);
        check(&fine, String::as_str).unwrap();
    }

    #[test]
    fn the_names_are_in_order() {
        assert!(LOADING.is_sorted());
    }
}
