//! The paths of the daemon's interface.

pub const DAEMON: &str = "/v1/daemon";
pub const DAEMON_STOP: &str = "/v1/daemon/stop";
pub const ENVIRONMENTS: &str = "/v1/environments";
/// What each environment uses of the machine.
pub const USAGE: &str = "/v1/environments/usage";
pub const STATUS: &str = "/v1/environment/status";
pub const PLAN: &str = "/v1/environment/plan";
pub const WAIT: &str = "/v1/environment/wait";
pub const LOGS: &str = "/v1/environment/logs";
pub const EVENTS: &str = "/v1/environment/events";
pub const VARIABLES: &str = "/v1/environment/variables";
pub const WHY: &str = "/v1/environment/why";
pub const EXEC: &str = "/v1/environment/exec";
pub const LEASE: &str = "/v1/environment/lease";
pub const HOLD: &str = "/v1/environment/hold";
pub const BUNDLE: &str = "/v1/environment/bundle";
pub const LEDGER: &str = "/v1/environment/ledger";
pub const LEDGER_ACCEPT: &str = "/v1/environment/ledger/accept";
pub const LEDGER_CHANGES: &str = "/v1/environment/ledger/changes";
pub const LEDGER_RUN: &str = "/v1/environment/ledger/run";
/// What is in the environment: data, traces, metrics.
pub const OUTLINE: &str = "/v1/environment/data/outline";
pub const ROWS: &str = "/v1/environment/data/rows";
pub const QUERY: &str = "/v1/environment/data/query";
pub const PRODUCE: &str = "/v1/environment/data/produce";
pub const TRACES: &str = "/v1/environment/traces";
pub const METRICS: &str = "/v1/environment/metrics";
/// The secrets of an environment, without values.
pub const SECRETS: &str = "/v1/environment/secrets";
pub const SECRETS_SET: &str = "/v1/environment/secrets/set";
pub const SNAPSHOTS: &str = "/v1/environment/snapshots";
pub const BACKUPS: &str = "/v1/environment/backups";
pub const CHAOS_INJECT: &str = "/v1/environment/chaos/inject";
pub const CHAOS_CHECK: &str = "/v1/environment/chaos/rehearse";
pub const CHAOS_HEAL: &str = "/v1/environment/chaos/heal";
pub const CHAOS_STATUS: &str = "/v1/environment/chaos/status";
pub const CHAOS_IMPAIRMENTS: &str = "/v1/environment/chaos/standing";
/// Records that an agent has called a tool.
pub const AGENT: &str = "/v1/environment/agent";
/// What this interface is: an OpenAPI document.
pub const OPENAPI: &str = "/v1/openapi.json";
/// Operations: listed, followed as a stream of changes.
pub const OPERATIONS: &str = "/v1/operations";
pub const OPERATIONS_FOLLOW: &str = "/v1/operations/follow";
/// Submits an operation and follows it to its end.
pub const SUBMIT: &str = "/v1/operations/submit";
pub const CANCEL: &str = "/v1/operations/cancel";
pub const IMAGES_FETCH: &str = "/v1/images/fetch";
pub const IMAGES_SAVE: &str = "/v1/images/save";
pub const IMAGES_LOAD: &str = "/v1/images/load";
/// Serves the page in the browser as long as the connection lasts.
pub const UI: &str = "/v1/ui";
