//! The tools: what each is for, which scope it needs, and the schema of its arguments.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::arguments::{Down, Events, Heal, Inject, Logs, Nothing, Outline, Query, RunScenario, Services, SnapshotName, Traces, Up, Why};

/// What an agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scope {
    /// See status, logs, events, traces and data, without secrets.
    Read,
    /// Start and stop services.
    Lifecycle,
    /// Save snapshots.
    Data,
    /// Inject faults and run scenarios.
    Chaos,
    /// Replace or remove data: restore snapshots, take volumes down, inject faults that lose data.
    Destroy,
}

/// What is allowed unless the command line says otherwise: everything that can be undone.
const DEFAULT: &[Scope] = &[Scope::Read, Scope::Lifecycle, Scope::Data, Scope::Chaos];

/// The scopes of one server.
#[derive(Debug, Clone)]
pub(super) struct Scopes(Vec<Scope>);

impl Scopes {
    /// `destroy` alone is added to the default.
    pub(super) fn of(allowed: &[Scope]) -> Self {
        if allowed.iter().all(|scope| *scope == Scope::Destroy) { Self([DEFAULT, allowed].concat()) } else { Self(allowed.to_vec()) }
    }

    pub(super) fn contain(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Lifecycle => "lifecycle",
            Self::Data => "data",
            Self::Chaos => "chaos",
            Self::Destroy => "destroy",
        }
    }
}

pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    about: &'static str,
    arguments: fn() -> Value,
}

const fn tool<A: JsonSchema>(name: &'static str, scope: Scope, about: &'static str) -> Tool {
    Tool { name, scope, about, arguments: schema_of::<A> }
}

pub(super) const TOOLS: &[Tool] = &[
    tool::<Nothing>("status", Scope::Read, "State of the environment and of each service, with reasons, addresses and active faults."),
    tool::<Logs>("logs", Scope::Read, "The last lines that services have printed."),
    tool::<Events>("events", Scope::Read, "What happened in the environment: starts, saves, restarts, scripts, faults, operations."),
    tool::<Why>("why", Scope::Read, "The chain of causes of a service's last change, root cause first."),
    tool::<Nothing>("env", Scope::Read, "The environment's variables: addresses, users, databases. Secrets are masked."),
    tool::<Outline>("outline", Scope::Read, "What a service holds: databases and tables, keys, topics and consumer groups."),
    tool::<Query>("query", Scope::Read, "Run one SQL statement that only reads, as a role that cannot write, for at most 5 s."),
    tool::<Traces>("traces", Scope::Read, "Traces that the environment's tracing service has collected, newest first."),
    tool::<Up>("up", Scope::Lifecycle, "Start the environment, or bring it in line with the profile, and wait until it is ready."),
    tool::<Down>(
        "down",
        Scope::Lifecycle,
        "Stop the environment. Data is kept, unless `volumes` is true, which needs the scope `destroy`.",
    ),
    tool::<Services>("restart", Scope::Lifecycle, "Restart services, and wait until they are ready."),
    tool::<Services>("start", Scope::Lifecycle, "Start services, and wait until they are ready."),
    tool::<Services>("stop", Scope::Lifecycle, "Stop services. Their data is kept."),
    tool::<SnapshotName>("snapshot_save", Scope::Data, "Save the data of all services under a name."),
    tool::<SnapshotName>("snapshot_restore", Scope::Destroy, "Replace the data of all services by that of a snapshot."),
    tool::<Inject>("inject_fault", Scope::Chaos, "Break a service on purpose for a while: latency, partition, pause, kill and others."),
    tool::<Heal>("heal", Scope::Chaos, "Undo faults now."),
    tool::<RunScenario>("run_scenario", Scope::Chaos, "Run a chaos scenario of the project to its verdict. It takes minutes."),
];

/// Of each allowed tool, as `tools/list` has it.
pub(super) fn listed(scopes: &Scopes) -> Vec<Value> {
    let allowed = TOOLS.iter().filter(|tool| scopes.contain(tool.scope));
    let entry = |tool: &Tool| {
        let reads = tool.scope == Scope::Read;
        let annotations = json!({
            "readOnlyHint": reads,
            "destructiveHint": tool.scope == Scope::Destroy || (tool.name == "down" && scopes.contain(Scope::Destroy)),
            "openWorldHint": false,
        });
        json!({ "name": tool.name, "description": tool.about, "inputSchema": (tool.arguments)(), "annotations": annotations })
    };
    allowed.map(entry).collect()
}

fn schema_of<A: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<A>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.shift_remove("title");
        fields.entry("properties").or_insert_with(|| json!({}));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_destroys_data_is_not_listed_until_it_is_allowed() {
        let names = |allowed: &[Scope]| {
            let listed = listed(&Scopes::of(allowed));
            listed.into_iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let usual = names(&[]);
        for tool in [
            "status",
            "up",
            "down",
            "logs",
            "events",
            "why",
            "env",
            "query",
            "restart",
            "snapshot_save",
            "inject_fault",
            "heal",
            "run_scenario",
        ] {
            assert!(usual.iter().any(|name| name == tool), "{tool}");
        }
        assert!(!usual.contains(&"snapshot_restore".to_owned()));
        assert!(
            names(&[Scope::Destroy]).contains(&"snapshot_restore".to_owned()) && names(&[Scope::Destroy]).contains(&"status".to_owned())
        );
        assert!(!names(&[Scope::Read]).contains(&"restart".to_owned()));
    }

    #[test]
    fn every_schema_is_an_object_that_refuses_what_it_does_not_know() {
        for tool in TOOLS {
            let schema = (tool.arguments)();
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{}: {schema}", tool.name);
            assert!(schema["properties"].is_object(), "{}", tool.name);
        }
    }
}
