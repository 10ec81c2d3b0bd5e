//! PURE: compares restored data with what was backed up.

use devenv_api::{Compared, Content};

/// The former and the current contents, with every difference as text.
pub fn compare(service: &str, before: &[Content], after: &[Content]) -> Compared {
    let mut differences = Vec::new();
    for had in before {
        match after.iter().find(|has| has.name == had.name) {
            None => differences.push(format!("{} is missing ({} rows)", had.name, had.rows)),
            Some(has) if has.rows != had.rows => differences.push(format!("{} has {} rows instead of {}", had.name, has.rows, had.rows)),
            Some(has) if had.checksum.is_some() && has.checksum.is_some() && has.checksum != had.checksum => {
                differences.push(format!("{} has different content: checksum {} instead of {}", had.name, shown(has), shown(had)));
            }
            Some(_) => {}
        }
    }
    for has in after.iter().filter(|has| has.rows > 0 && !before.iter().any(|had| had.name == has.name)) {
        differences.push(format!("{} did not exist before ({} rows)", has.name, has.rows));
    }
    Compared { service: service.to_owned(), before: before.to_vec(), after: after.to_vec(), differences }
}

pub fn verified(compared: &[Compared]) -> bool {
    compared.iter().all(|one| one.differences.is_empty())
}

fn shown(content: &Content) -> &str {
    content.checksum.as_deref().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(name: &str, rows: u64, checksum: Option<&str>) -> Content {
        Content { name: name.to_owned(), rows, checksum: checksum.map(str::to_owned) }
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let before =
            [content("app/a", 1, Some("x")), content("app/b", 2, Some("y")), content("app/c", 3, None), content("app/d", 4, Some("z"))];
        let after = [
            content("app/a", 1, Some("x")),
            content("app/b", 2, Some("n")),
            content("app/c", 3, Some("q")),
            content("app/e", 5, None),
            content("app/f", 0, None),
        ];
        let compared = compare("db", &before, &after);
        assert_eq!(
            compared.differences,
            ["app/b has different content: checksum n instead of y", "app/d is missing (4 rows)", "app/e did not exist before (5 rows)"]
        );
        assert!(!verified(&[compared]));
        assert!(verified(&[compare("db", &before, &before)]));
    }
}
