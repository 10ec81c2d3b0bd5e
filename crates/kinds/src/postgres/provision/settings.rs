//! A database's own settings: written only if they differ from the catalogue.

use super::{identifier, literal};

/// Settings whose value is a list of names; the server must get each name separately.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The statement that sets `name`, unless `found`, the catalogue's lines of `name=value`, contains that value.
pub fn statement(database: &str, name: &str, value: &str, found: &[String]) -> Option<String> {
    let is_list = LISTS.contains(&name.to_ascii_lowercase().as_str());
    let items: Vec<String> = value.split(',').map(|item| item.trim().trim_matches('"').to_owned()).collect();
    let stored = if is_list { items.iter().map(|item| bare(item)).collect::<Vec<_>>().join(", ") } else { value.to_owned() };
    let same =
        found.iter().filter_map(|line| line.split_once('=')).any(|(found, value)| found.eq_ignore_ascii_case(name) && value == stored);
    if same {
        return None;
    }
    let value = if is_list { items.iter().map(|item| literal(item)).collect::<Vec<_>>().join(", ") } else { literal(value) };
    // A setting of an extension has a dot in its name, and each part is quoted separately.
    let name = name.split('.').map(identifier).collect::<Vec<_>>().join(".");
    Some(format!("ALTER DATABASE {} SET {name} = {value}", identifier(database)))
}

/// As the catalogue writes a name in a list.
fn bare(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if plain { name.to_owned() } else { identifier(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_the_catalogue_holds_is_not_written_again() {
        let found = ["TimeZone=UTC", r#"search_path="$user", app"#, "work_mem=64MB"].map(str::to_owned);
        let ask = |name, value| statement("orders", name, value, &found);
        assert_eq!(ask("timezone", "UTC"), None);
        assert_eq!(ask("search_path", r#""$user",app"#), None);
        assert_eq!(ask("work_mem", "64MB"), None);
        assert_eq!(ask("work_mem", "1MB").unwrap(), "ALTER DATABASE \"orders\" SET \"work_mem\" = '1MB'");
        assert_eq!(ask("search_path", "app, public").unwrap(), "ALTER DATABASE \"orders\" SET \"search_path\" = 'app', 'public'");
        assert_eq!(
            ask("auto_explain.log_format", "it's").unwrap(),
            "ALTER DATABASE \"orders\" SET \"auto_explain\".\"log_format\" = 'it''s'"
        );
    }
}
