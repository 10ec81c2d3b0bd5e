//! PURE: the spec of an environment whose project has moved to another directory. Called when it is relocated (`lifecycle`).
//!
//! A service that runs keeps the spec that it runs with, so that nothing restarts it, and the next `up` compares with that. One that
//! does not run would otherwise be started in a directory that does not exist any more, and fail until the next `up`.

use std::path::Path;

use devenv_spec::{EnvironmentSpec, ServiceName};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The same environment in another directory; `runs` tells which services run.
pub(super) fn spec(former: EnvironmentSpec, project: &Path, runs: impl Fn(&ServiceName) -> bool) -> EnvironmentSpec {
    let (from, to) = (former.project.to_string_lossy().into_owned(), project.to_string_lossy().into_owned());
    let mut moved = EnvironmentSpec { project: project.to_owned(), ..former };
    moved.variables = relocated(moved.variables, &from, &to);
    for (name, service) in &mut moved.services {
        if !runs(name) {
            *service = relocated(service.clone(), &from, &to);
        }
    }
    moved
}

/// Plain data with every path of the former directory replaced. Text that only contains such a path is left as it is.
fn relocated<T: Serialize + DeserializeOwned>(plain: T, from: &str, to: &str) -> T {
    let replaced = serde_json::to_value(&plain).ok().map(|value| replace(value, from, to));
    replaced.and_then(|value| serde_json::from_value(value).ok()).unwrap_or(plain)
}

fn replace(value: Value, from: &str, to: &str) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix(from) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Value::String(format!("{to}{rest}")),
            _ => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(|item| replace(item, from, to)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, replace(field, from, to))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_paths_of_the_former_directory_are_replaced() {
        let before = json!({ "directory": "/old/shop", "mounts": ["/old/shop/src", "/old/shopping", "see /old/shop"], "count": 1 });
        let after = json!({ "directory": "/new", "mounts": ["/new/src", "/old/shopping", "see /old/shop"], "count": 1 });
        assert_eq!(replace(before, "/old/shop", "/new"), after);
    }
}
