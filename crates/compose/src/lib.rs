//! Compose files: from texts to the document of a profile, and back.
//!
//! Pure: the disk is a trait, and the variables are arguments. The way: `load` reads each file into a tree of values with
//! places, fills in variables, compares it with the table of `keys`, brings it into long forms (`normal`), and lays the files on
//! one another (`merge`) with what they include and extend; `convert` and `service` make the profile's document of the whole, and
//! `render` makes a Compose file of one. All problems are found at once, each with its place. The profile crate calls it.

mod build;
mod check;
mod convert;
mod files;
pub mod keys;
mod load;
mod merge;
mod mounts;
mod normal;
mod paths;
mod ports;
mod project;
mod reference;
mod render;
mod service;
#[cfg(test)]
mod tests;
mod values;
mod words;

use devenv_document::source::{Findings, Sources, Span};
use indexmap::IndexMap;
use serde_json::Value;

pub use load::{Files, Request};
pub use reference::reference;
pub use render::{Unrendered, render, variable};

/// What files mean, with every problem that was found.
pub struct Loaded {
    pub sources: Sources,
    pub findings: Findings,
    /// None if a file could not be read at all; only complete if there are no errors.
    pub converted: Option<Converted>,
}

/// Files as a profile.
pub struct Converted {
    /// `name:` of the files.
    pub name: Option<String>,
    /// The name under which Docker Compose runs them.
    pub project: String,
    /// The profile's document, as JSON of the profile's own fields.
    pub document: Value,
    /// The same for people: values of secrets stand as the variables that they come from.
    pub shown: Value,
    /// Where each service is defined.
    pub places: IndexMap<String, Span>,
}

/// The names that Compose looks for in a directory, the first one first.
pub const NAMES: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The names of the file that is laid on it, if there is one.
pub const OVERRIDES: &[&str] =
    &["compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"];

/// Reads, merges and converts files.
pub fn load(request: Request<'_>, files: &dyn Files) -> Loaded {
    let mut loader = load::Loader::new(request, files);
    let place = loader.place();
    let root = loader.root(&place);
    let load::Loader { mut sources, mut findings, .. } = loader;
    let converted = root.map(|root| {
        if root.get("services").is_none_or(|services| services.map().is_none_or(indexmap::IndexMap::is_empty)) && !findings.has_errors() {
            findings
                .error(root.span, "missing-field", "the file has no services")
                .hint("write at least `services: { web: { image: NAME } }`");
        }
        let name = root.get("name").and_then(|name| name.text()).map(str::to_owned);
        let project = place.project_name(name.as_deref());
        let convert::Document { mut document, places } = convert::document(&root, request, files, &place, &mut sources, &mut findings);
        let mut shown = document.clone();
        hide(&mut document, &mut shown);
        Converted { name, project, document, shown, places }
    });
    findings.sort();
    Loaded { sources, findings, converted }
}

/// Values from variables stand as the variable where they are shown.
fn hide(document: &mut Value, shown: &mut Value) {
    for (value, is_shown) in [(document, false), (shown, true)] {
        for service in value["services"].as_object_mut().into_iter().flat_map(|services| services.values_mut()) {
            for field in ["config_files", "secret_files"] {
                let files = service.get_mut("container").and_then(|container| container.get_mut(field)).and_then(Value::as_object_mut);
                for file in files.into_iter().flat_map(|files| files.values_mut()).filter_map(Value::as_object_mut) {
                    if let Some(variable) = file.shift_remove("from_variable")
                        && is_shown
                    {
                        file.insert("content".to_owned(), Value::String(format!("${{{}}}", variable.as_str().unwrap_or_default())));
                    }
                }
            }
        }
    }
}
