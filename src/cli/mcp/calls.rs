//! Carries out the calls of tools, through the daemon, within the scopes.
//!
//! Every call is recorded as an event of the environment, with the agent's name. Results are compact JSON, without the secrets that
//! devenv knows.

use std::{cell::RefCell, collections::BTreeMap, process::Stdio, time::Duration};

use devenv_api::{
    ASKED_BY_AGENT, AgentCall, ApiError, AskedBy, ChaosPlan, Client, DownRequest, ErrorCode, ErrorDocument, EventsRequest, HealRequest,
    InjectRequest, LogsRequest, NamedRequest, OperationRequest, OutlineRequest, QueryRequest, ServicesRequest, Submission, TracesRequest,
    UpRequest, VariablesFor, VariablesRequest, WhyRequest,
};
use devenv_spec::sensitive::MASK;
use indexmap::IndexMap;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    INSTRUCTIONS, VERSIONS,
    arguments::{Down, Events, Heal, Inject, Logs, Nothing, Outline, Query, RunScenario, Services, SnapshotName, Traces, Up, Why},
    tools::{self, Scope, Scopes, TOOLS},
};
use crate::cli::{
    failure::{Failure, api_error, internal, usage},
    project,
    session::Session,
};

/// The longest result, in bytes: more would fill an agent's memory.
const LONGEST_RESULT: usize = 256 << 10;
const MOST_LINES: usize = 2000;
const MOST_EVENTS: usize = 500;
/// The longest that starting may take, and what is asked for by default.
const LONGEST_START: u64 = 1800;
const USUAL_START: u64 = 300;
const USUAL_FAULT: u64 = 60;
const SCENARIO: Duration = Duration::from_mins(30);
/// Faults after which data is missing.
const DESTROYING: &[&str] = &["redis-flush", "power-cut", "remove"];
/// Shorter values would mask parts of words.
const SHORTEST_SECRET: usize = 8;

/// An agent, as far as it has introduced itself, and what it may do.
pub(super) struct Agent<'a> {
    session: &'a Session,
    scopes: Scopes,
    name: RefCell<String>,
}

impl<'a> Agent<'a> {
    pub(super) fn new(session: &'a Session, scopes: Scopes) -> Self {
        Self { session, scopes, name: RefCell::new("unknown".to_owned()) }
    }

    /// The answer to `initialize`.
    pub(super) fn greeted(&self, parameters: &Value) -> Value {
        if let Some(name) = parameters.pointer("/clientInfo/name").and_then(Value::as_str) {
            *self.name.borrow_mut() = name.chars().filter(|c| !c.is_control()).take(60).collect();
        }
        let asked = parameters.get("protocolVersion").and_then(Value::as_str);
        let version = asked.filter(|asked| VERSIONS.contains(asked)).unwrap_or(VERSIONS[0]);
        json!({
            "protocolVersion": version,
            "capabilities": { "tools": { "listChanged": false } },
            "serverInfo": { "name": "devenv", "version": env!("CARGO_PKG_VERSION") },
            "instructions": INSTRUCTIONS,
        })
    }

    pub(super) fn tools(&self) -> Vec<Value> {
        tools::listed(&self.scopes)
    }

    /// The result as text.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<String, ApiError> {
        let Some(known) = TOOLS.iter().find(|known| known.name == tool) else {
            return Err(usage(format!("there is no tool `{tool}`")));
        };
        self.may(known.scope, tool)?;
        let client = self.session.client().await.map_err(told)?;
        let service = arguments.get("service").and_then(Value::as_str).map(str::to_owned);
        let is_noted = self.note(&client, tool, service.clone()).await;
        let result = self.carry_out(&client, tool, arguments).await;
        if !is_noted {
            self.note(&client, tool, service).await;
        }
        let result = result?;
        let secrets = self.secrets(&client).await;
        Ok(shortened(masked(result, &secrets)))
    }

    fn may(&self, scope: Scope, what: &str) -> Result<(), ApiError> {
        if self.scopes.contain(scope) {
            return Ok(());
        }
        let scope = scope.name();
        Err(ApiError::new(ErrorCode::Usage, format!("`{what}` needs the scope `{scope}`, which this agent does not have"))
            .hint(format!("a person can allow it: start the server with `devenv mcp --allow {scope}`")))
    }

    /// Whether the call is an event now: an environment that does not exist yet has none.
    async fn note(&self, client: &Client, tool: &str, service: Option<String>) -> bool {
        let Ok(target) = self.session.target() else { return false };
        // Not borrowed while it waits: another message may change it.
        let agent = self.name.borrow().clone();
        client.note_call(&AgentCall { target, agent, tool: tool.to_owned(), service }).await.is_ok()
    }

    async fn carry_out(&self, client: &Client, tool: &str, arguments: Value) -> Result<String, ApiError> {
        let target = self.session.target()?;
        match tool {
            "status" => {
                let Nothing {} = parsed(arguments)?;
                answer(&client.status(&target).await)
            }
            "logs" => self.logs(client, parsed(arguments)?).await,
            "events" => self.events(client, parsed(arguments)?).await,
            "why" => {
                let Why { service } = parsed(arguments)?;
                answer(&client.why(&WhyRequest { target, service }).await)
            }
            "env" => {
                let Nothing {} = parsed(arguments)?;
                let variables = client.variables(&VariablesRequest { target, form: VariablesFor::Host, service: None }).await;
                let variables = variables.map_err(api_error)?.variables;
                text(&variables.into_iter().map(|(name, variable)| (name, variable.redacted)).collect::<IndexMap<_, _>>())
            }
            "outline" => {
                let Outline { service, filter } = parsed(arguments)?;
                answer(&client.outline(&OutlineRequest { target, service, filter }).await)
            }
            "query" => {
                let Query { service, sql, database, limit } = parsed(arguments)?;
                answer(&client.query(&QueryRequest { target, service, database, text: sql, limit: limit.unwrap_or(100) }).await)
            }
            "traces" => {
                let Traces { id, service, operation, min_duration_ms, limit } = parsed(arguments)?;
                let limit = limit.unwrap_or(10);
                let tags = BTreeMap::new();
                answer(&client.traces(&TracesRequest { target, id, service, operation, min_duration_ms, tags, limit }).await)
            }
            "up" => self.up(client, parsed(arguments)?).await,
            "down" => {
                let Down { volumes } = parsed(arguments)?;
                if volumes {
                    self.may(Scope::Destroy, "down with volumes")?;
                }
                self.operate(client, tool, OperationRequest::Down(DownRequest { target, volumes })).await
            }
            "start" | "stop" | "restart" => {
                let Services { services } = parsed(arguments)?;
                if services.is_empty() {
                    return Err(usage(format!("`{tool}` needs the names of services")));
                }
                let request = ServicesRequest { target, services };
                let request = match tool {
                    "start" => OperationRequest::Start(request),
                    "stop" => OperationRequest::Stop(request),
                    _ => OperationRequest::Restart(request),
                };
                self.operate(client, tool, request).await
            }
            "snapshot_save" | "snapshot_restore" => {
                let SnapshotName { name } = parsed(arguments)?;
                let request = NamedRequest { target, name };
                let is_save = tool == "snapshot_save";
                let request = if is_save { OperationRequest::SnapshotSave(request) } else { OperationRequest::SnapshotRestore(request) };
                self.operate(client, tool, request).await
            }
            "inject_fault" => self.inject(client, parsed(arguments)?).await,
            "heal" => {
                let Heal { ids } = parsed(arguments)?;
                answer(&client.heal(&HealRequest { target, ids }).await)
            }
            "run_scenario" => self.run_scenario(parsed(arguments)?).await,
            other => Err(internal("cannot call the tool", other)),
        }
    }

    async fn logs(&self, client: &Client, arguments: Logs) -> Result<String, ApiError> {
        let Logs { services, lines, grep, since } = arguments;
        if let Some(pattern) = &grep {
            regex::Regex::new(pattern).map_err(|error| usage(format!("`grep`: {error}")))?;
        }
        let tail = Some(lines.unwrap_or(200).clamp(1, MOST_LINES));
        let request = LogsRequest { services, grep, since, tail, ..LogsRequest::of(self.session.target()?) };
        let mut stream = client.logs(&request).await.map_err(api_error)?;
        let mut found = Vec::new();
        while let Some(line) = futures_util::StreamExt::next(&mut stream).await {
            let line = line.map_err(api_error)?;
            found.push(format!("{} {}: {}", line.time, line.service, line.text));
        }
        Ok(if found.is_empty() { "no lines".to_owned() } else { found.join("\n") })
    }

    async fn events(&self, client: &Client, arguments: Events) -> Result<String, ApiError> {
        let mut stream = client.events(&EventsRequest { target: self.session.target()?, follow: false }).await.map_err(api_error)?;
        let most = arguments.count.unwrap_or(50).clamp(1, MOST_EVENTS);
        let mut found = std::collections::VecDeque::new();
        while let Some(event) = futures_util::StreamExt::next(&mut stream).await {
            let event = event.map_err(api_error)?;
            if arguments.service.is_none() || arguments.service == event.service {
                found.push_back(event);
                if found.len() > most {
                    found.pop_front();
                }
            }
        }
        text(&found)
    }

    async fn up(&self, client: &Client, arguments: Up) -> Result<String, ApiError> {
        let name = project::profile_name(self.session, arguments.profile.as_deref()).await.map_err(told)?;
        let loaded = project::load(self.session, &name).map_err(told)?;
        let seconds = arguments.timeout_seconds.unwrap_or(USUAL_START).clamp(1, LONGEST_START);
        let request = project::start_request(self.session, &name, &loaded, false).await.map_err(told)?;
        let request = UpRequest { services: arguments.services, timeout_ms: Some(seconds * 1000), ..request };
        self.operate(client, "up", OperationRequest::Up(request)).await
    }

    async fn inject(&self, client: &Client, arguments: Inject) -> Result<String, ApiError> {
        let Inject { fault, service, seconds, parameters } = arguments;
        let catalogue = devenv_kinds::faults::catalogue().faults;
        let Some(known) = catalogue.iter().find(|known| known.name == fault) else {
            let names: Vec<&str> = catalogue.iter().map(|known| known.name.as_str()).collect();
            return Err(usage(format!("there is no fault `{fault}`")).hint(format!("the faults are {}", names.join(", "))));
        };
        if DESTROYING.contains(&fault.as_str()) {
            self.may(Scope::Destroy, &fault)?;
        }
        let for_ms = match (seconds, known.undone_by.as_str()) {
            (Some(seconds), _) => Some(seconds.saturating_mul(1000)),
            (None, "nothing") => None,
            (None, _) => Some(USUAL_FAULT * 1000),
        };
        let request = InjectRequest { target: self.session.target()?, fault, service, for_ms, parameters, id: None, seed: 0 };
        answer(&client.inject(&request).await)
    }

    async fn run_scenario(&self, arguments: RunScenario) -> Result<String, ApiError> {
        let RunScenario { scenario, seed } = arguments;
        if scenario.starts_with('-') {
            return Err(usage("the name of a scenario does not begin with `-`"));
        }
        let seed = seed.map(|seed| format!("--seed={seed}"));
        let plan: ChaosPlan = parsed(json_of(&self.chaos(&scenario, ["--dry-run"]).await?)?)?;
        if let Some(planned) = plan.plan.iter().find(|planned| DESTROYING.contains(&planned.fault.as_str())) {
            self.may(Scope::Destroy, &planned.fault)?;
        }
        self.chaos(&scenario, seed.iter().map(String::as_str)).await
    }

    /// `chaos run` in a process of its own: it prints its own result, and a call that is cancelled ends it.
    async fn chaos<'w>(&self, scenario: &str, words: impl IntoIterator<Item = &'w str>) -> Result<String, ApiError> {
        let failed = |error: std::io::Error| internal("cannot run the scenario", error);
        let target = self.session.target()?;
        let mut command = tokio::process::Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["--json", "--quiet", "--allowed-powers-only", "--project", &target.project, "--instance", &target.instance]);
        command.args(self.session.global.context.iter().flat_map(|context| ["--context", context]));
        command.args(["chaos", "run", scenario]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(SCENARIO, command.output()).await;
        let output = output.map_err(|_| ApiError::new(ErrorCode::TimedOut, format!("the scenario took longer than {SCENARIO:?}")))?;
        let output = output.map_err(failed)?;
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // A verdict is a result, whatever it is.
        if matches!(output.status.code(), Some(0 | 10..=12)) {
            return Ok(printed);
        }
        let told = serde_json::from_str::<ErrorDocument>(&printed).map(|document| document.error);
        Err(told.unwrap_or_else(|_| ApiError::new(ErrorCode::Failed, format!("the scenario was not run: {}", output.status))))
    }

    /// Submits an operation in the agent's name, and waits for its result.
    async fn operate(&self, client: &Client, tool: &str, request: OperationRequest) -> Result<String, ApiError> {
        let asked_by = AskedBy {
            command: format!("{tool}{ASKED_BY_AGENT}{}", self.name.borrow()),
            pid: Some(std::process::id()),
            user: Some(rustix::process::getuid().as_raw()),
        };
        answer(&client.carry_out::<Value>(&Submission { request, asked_by }).await)
    }

    /// The values of variables that are nothing but a secret.
    async fn secrets(&self, client: &Client) -> Vec<String> {
        let Ok(target) = self.session.target() else { return Vec::new() };
        let variables = client.variables(&VariablesRequest { target, form: VariablesFor::Host, service: None }).await;
        let variables = variables.map(|variables| variables.variables).unwrap_or_default();
        let values = variables.into_values().filter(|variable| variable.redacted == MASK).map(|variable| variable.value);
        values.filter(|value| value.len() >= SHORTEST_SECRET).collect()
    }
}

fn parsed<A: DeserializeOwned>(arguments: Value) -> Result<A, ApiError> {
    serde_json::from_value(arguments).map_err(|error| usage(format!("the arguments are wrong: {error}")))
}

fn json_of(text: &str) -> Result<Value, ApiError> {
    serde_json::from_str(text).map_err(|error| internal("cannot read the plan", error))
}

fn answer<T: Serialize>(answer: &Result<T, devenv_api::ClientError>) -> Result<String, ApiError> {
    match answer {
        Ok(answer) => text(answer),
        Err(devenv_api::ClientError::Answered(error)) => Err(error.clone()),
        Err(error) => Err(internal("cannot reach the daemon", error)),
    }
}

fn text(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| internal("cannot write the result", error))
}

fn told(failure: Failure) -> ApiError {
    match failure {
        Failure::Told(error) | Failure::Invalid { error, .. } | Failure::Cancelled { error, .. } => error,
        Failure::Signal(_) | Failure::OutputClosed => ApiError::new(ErrorCode::Interrupted, "interrupted"),
    }
}

fn masked(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text })
}

/// The end of a long text is the newest part of it.
fn shortened(text: String) -> String {
    if text.len() <= LONGEST_RESULT {
        return text;
    }
    let from = (text.len() - LONGEST_RESULT..text.len()).find(|from| text.is_char_boundary(*from)).unwrap_or(text.len());
    format!("[the first {from} bytes are left out]\n{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Global;

    #[tokio::test]
    async fn what_is_not_allowed_is_refused_before_anything_is_asked() {
        let session = Session::new(Global { project: Some("/nowhere".into()), json: true, quiet: true, ..Global::default() });
        let refused = async |allowed: &[Scope], tool: &str| {
            Agent::new(&session, Scopes::of(allowed)).call(tool, json!({ "name": "x" })).await.unwrap_err().message
        };
        assert!(refused(&[], "snapshot_restore").await.contains("needs the scope `destroy`"));
        assert!(refused(&[Scope::Read], "restart").await.contains("needs the scope `lifecycle`"));
        assert_eq!(refused(&[], "format_disk").await, "there is no tool `format_disk`");
    }

    #[test]
    fn faults_that_lose_data_are_faults_that_exist() {
        let catalogue = devenv_kinds::faults::catalogue().faults;
        assert!(DESTROYING.iter().all(|name| catalogue.iter().any(|fault| fault.name == *name)));
    }

    #[test]
    fn a_result_has_no_secret_and_an_end() {
        assert_eq!(masked("a hunter22hunter b".to_owned(), &["hunter22hunter".to_owned()]), format!("a {MASK} b"));
        let long = shortened("ä".repeat(LONGEST_RESULT));
        assert!(long.len() < LONGEST_RESULT + 60 && long.ends_with('ä') && long.starts_with("[the first"));
    }
}
