//! Questions to the Prometheus of an environment.

use serde_json::Value;

use crate::clients::get;

/// The value of the first series that Prometheus finds for the expression now.
pub(crate) fn asked(prometheus: &str, expression: &str) -> Option<f64> {
    let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer: Value = serde_json::from_str(&get(&format!("{prometheus}/api/v1/query?query={escaped}")).1).unwrap();
    answer["data"]["result"].get(0)?["value"][1].as_str()?.parse().ok()
}

pub(crate) fn is_firing(prometheus: &str, name: &str) -> bool {
    let alerts: Value = serde_json::from_str(&get(&format!("{prometheus}/api/v1/alerts")).1).unwrap();
    alerts["data"]["alerts"].as_array().unwrap().iter().any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing")
}
