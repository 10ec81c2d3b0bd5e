//! When a service starts, is healthy, is restarted and stops, and what is done about changed files.

use serde_json::{Map, Value, json};

use super::escaped;

pub(super) fn dependencies(service: &Value, rendered: &mut Map<String, Value>) {
    let mut depends = Map::new();
    for (name, condition) in service["depends_on"].as_object().into_iter().flatten() {
        let condition = match condition.as_str() {
            Some("ready") => "service_healthy",
            Some("completed") => "service_completed_successfully",
            _ => "service_started",
        };
        let mut value = Map::from_iter([("condition".to_owned(), json!(condition))]);
        if service["on_dependency_restart"] == "restart" {
            value.insert("restart".to_owned(), json!(true));
        }
        depends.insert(name.clone(), value.into());
    }
    if !depends.is_empty() {
        rendered.insert("depends_on".to_owned(), depends.into());
    }
}

pub(super) fn health(service: &Value, rendered: &mut Map<String, Value>) {
    let Some(command) = service["probe"]["exec"].as_array() else { return };
    let test: Vec<Value> = std::iter::once(json!("CMD")).chain(command.iter().map(escaped)).collect();
    let patience = service["ready_timeout"].as_str().and_then(crate::words::duration);
    // Together they are the time that the service may take. A check may itself start a program that takes seconds.
    let mut check = json!({ "test": test, "interval": "1s", "timeout": "9s", "retries": 6 });
    if let Some(patience) = patience.filter(|patience| *patience > 60_000) {
        check["start_period"] = json!(crate::words::duration_of_profile(patience - 60_000));
    }
    rendered.insert("healthcheck".to_owned(), check);
}

pub(super) fn ending(service: &Value, rendered: &mut Map<String, Value>) {
    if let Some(signal) = service["stop"].get("signal") {
        rendered.insert("stop_signal".to_owned(), signal.clone());
    }
    if let Some(grace) = service["stop"].get("grace") {
        rendered.insert("stop_grace_period".to_owned(), grace.clone());
    }
    let policy = service["restart"]["policy"].as_str().unwrap_or("on-failure");
    match (policy, service["restart"].get("attempts")) {
        ("never", _) => {}
        ("always", None) => {
            rendered.insert("restart".to_owned(), json!("always"));
        }
        ("always", Some(attempts)) => {
            rendered.insert("deploy".to_owned(), json!({ "restart_policy": { "condition": "any", "max_attempts": attempts } }));
        }
        (_, None) => {
            rendered.insert("restart".to_owned(), json!("on-failure"));
        }
        (_, Some(attempts)) => {
            rendered.insert("restart".to_owned(), json!(format!("on-failure:{attempts}")));
        }
    }
}

pub(super) fn watch(service: &Value, rendered: &mut Map<String, Value>) {
    let mut rules = Vec::new();
    for rule in service["watch"].as_array().into_iter().flatten() {
        let action = match rule["on_change"].as_str() {
            Some("sync") if rule.get("exec").is_some() => "sync+exec",
            Some("sync") if rule.get("signal").is_some() => "sync",
            Some("sync") => "sync+restart",
            Some("rebuild") => "rebuild",
            _ => "restart",
        };
        for path in rule["paths"].as_array().into_iter().flatten() {
            let mut value = Map::from_iter([("action".to_owned(), json!(action)), ("path".to_owned(), escaped(path))]);
            for (ours, theirs) in [("to", "target"), ("ignore", "ignore"), ("include", "include"), ("exec", "exec")] {
                if let Some(field) = rule.get(ours) {
                    value.insert(theirs.to_owned(), escaped(field));
                }
            }
            rules.push(Value::from(value));
        }
    }
    if !rules.is_empty() {
        rendered.insert("develop".to_owned(), json!({ "watch": rules }));
    }
}

pub(super) fn hooks(service: &Value, rendered: &mut Map<String, Value>) {
    for name in ["post_start", "pre_stop"] {
        if let Some(hooks) = service["container"]["hooks"].get(name).filter(|hooks| hooks.as_array().is_some_and(|list| !list.is_empty())) {
            rendered.insert(name.to_owned(), escaped(hooks));
        }
    }
}
