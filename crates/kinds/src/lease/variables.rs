//! The environment's variables with a lease's values in place of the shared ones. Pure.

use indexmap::IndexMap;
use url::Url;

/// Sets the variable.
pub(crate) fn set(variables: &mut IndexMap<String, String>, name: String, value: &str) {
    variables.insert(name, value.to_owned());
}

/// Every variable with the old value gets the new one, including those of the profile.
pub(crate) fn replace(variables: &mut IndexMap<String, String>, old: &str, new: &str) {
    for value in variables.values_mut().filter(|value| value.as_str() == old) {
        new.clone_into(value);
    }
}

/// `scheme://USER:SECRET@HOST:PORT/DATABASE?…` with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    changed(url, |url| {
        url.set_path(name);
        Ok(())
    })
}

/// `scheme://USER:SECRET@HOST:PORT/DATABASE?…` with another user.
pub(crate) fn with_user(url: &str, user: &str, password: &str) -> String {
    changed(url, |url| {
        url.set_username(user)?;
        url.set_password(Some(password))
    })
}

/// A text that is no URL is unchanged.
fn changed(text: &str, change: impl FnOnce(&mut Url) -> Result<(), ()>) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    if change(&mut url).is_ok() { url.into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_of_an_address_is_replaced_and_the_others_stay() {
        let url = "postgres://app:s@127.0.0.1:1/app?sslmode=verify-full&sslrootcert=/a%20b/ca.pem";
        assert_eq!(with_database(url, "x"), "postgres://app:s@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/a%20b/ca.pem");
        assert_eq!(with_user("redis://default:s@127.0.0.1:2/0", "u", "p@"), "redis://u:p%40@127.0.0.1:2/0");
        assert_eq!(with_user("rediss://127.0.0.1:2/0", "u", "p"), "rediss://u:p@127.0.0.1:2/0");
        assert_eq!(with_database("elsewhere", "x"), "elsewhere");
    }
}
