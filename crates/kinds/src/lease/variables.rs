//! The environment's variables with a lease's values in the place of the shared ones. Pure.

use indexmap::IndexMap;

/// Sets the variable.
pub(crate) fn set(variables: &mut IndexMap<String, String>, name: String, value: &str) {
    variables.insert(name, value.to_owned());
}

/// Every variable that has the old value gets the new one, those of the profile's own included.
pub(crate) fn replace(variables: &mut IndexMap<String, String>, old: &str, new: &str) {
    for value in variables.values_mut().filter(|value| value.as_str() == old) {
        new.clone_into(value);
    }
}

/// `scheme://USER:SECRET@HOST:PORT/DATABASE?…` with another database.
pub(crate) fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, String::new()), |(address, query)| (address, format!("?{query}")));
    let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
    format!("{server}/{name}{query}")
}
