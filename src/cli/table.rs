//! Status, endpoints, plans and lists as text: aligned columns; colours only where a word says the same.

use std::fmt::Write;

use anstyle::Style;
use comfy_table::{ContentArrangement, Table, presets};
use devenv_api::{Consequence, LedgerEntry, LedgerState, OperationState, Phase, Plan, Service, ServiceState, Status};

use super::printer::{BAD, BOLD, DIM, GOOD, NAME, WARN, paint};

/// Columns with headings, without lines. A cell never wraps, so that a row is one line for `grep` and `awk`.
pub(super) fn columns<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let mut lines = text.lines().map(str::trim_end);
    let heading = lines.next().map(|heading| paint(DIM, heading)).unwrap_or_default();
    lines.fold(heading, |text, line| text + "\n" + line)
}

/// 812 ms, 3.2 s, 4 m 10 s, 2 h 05 m.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

pub(super) fn state_style(state: ServiceState) -> Style {
    match state {
        ServiceState::Ready | ServiceState::Completed => GOOD,
        ServiceState::Unhealthy | ServiceState::Unreachable | ServiceState::CrashLoop | ServiceState::Failed => BAD,
        ServiceState::Pulling | ServiceState::Creating | ServiceState::Starting | ServiceState::Provisioning | ServiceState::Stopping => {
            WARN
        }
        ServiceState::Pending | ServiceState::Stopped | ServiceState::Asleep => DIM,
    }
}

pub(super) fn operation_state(state: OperationState) -> String {
    let style = match state {
        OperationState::Succeeded => GOOD,
        OperationState::Failed => BAD,
        OperationState::Running | OperationState::Undone => WARN,
        OperationState::Waiting | OperationState::Cancelled => DIM,
    };
    paint(style, state)
}

fn phase_style(phase: Phase) -> Style {
    match phase {
        Phase::Ready => GOOD,
        Phase::Degraded | Phase::Failed => BAD,
        Phase::Starting | Phase::Stopping => WARN,
        Phase::Absent | Phase::Stopped | Phase::Asleep => DIM,
    }
}

/// The scripts that were applied to the data.
pub(super) fn ledger(entries: &[LedgerEntry]) -> String {
    if entries.is_empty() {
        return "no scripts".to_owned();
    }
    let rows = entries.iter().map(|entry| {
        let place = entry.database.as_deref().map_or_else(|| entry.service.clone(), |database| format!("{}/{database}", entry.service));
        let state = match entry.state {
            LedgerState::Applied => "applied",
            LedgerState::Pending => "pending",
            LedgerState::Changed => "changed",
            LedgerState::Failed => "failed",
            LedgerState::Interrupted => "interrupted",
        };
        let rows = entry.rows.map(|rows| rows.to_string()).unwrap_or_default();
        let took = entry.duration_ms.map(duration).unwrap_or_default();
        [place, entry.path.clone(), state.to_owned(), entry.applied_at.clone().unwrap_or_default(), took, rows]
    });
    columns(["DATA OF", "SCRIPT", "STATE", "APPLIED", "TOOK", "ROWS"], rows)
}

/// One environment in full.
pub(super) fn status(status: &Status) -> String {
    let profile = status.profile.as_deref().map(|profile| format!(", profile {}", paint(BOLD, profile))).unwrap_or_default();
    let mut text =
        format!("{} {}{profile}: {}", paint(BOLD, &status.project), status.instance, paint(phase_style(status.phase), status.phase));
    if !status.services.is_empty() {
        let table = columns(["SERVICE", "STATE", "KIND", "READY AFTER", "RESTARTS", "ADDRESS"], status.services.iter().map(service_row));
        text.push('\n');
        text.push_str(&coloured_states(&table, &status.services));
    }
    for service in &status.services {
        if let Some(reason) = &service.reason {
            let _ = write!(text, "\n{}: {reason}", paint(NAME, &service.name));
        }
    }
    for entry in &status.drift {
        let _ = write!(text, "\n{}: {} has changed since it was applied to {}", paint(WARN, "drift"), entry.path, entry.service);
    }
    for name in &status.overridden {
        let _ = write!(text, "\n{}", overridden(name));
    }
    for fault in &status.faults {
        let until = fault.heals_at.as_deref().map(|time| format!(" until {time}")).unwrap_or_default();
        let _ = write!(text, "\n{}: {} on {}{until} (`devenv chaos heal {}`)", paint(WARN, "fault"), fault.fault, fault.service, fault.id);
    }
    for operation in &status.operations {
        let _ = write!(text, "\n{}: {}", paint(NAME, "operation"), super::operations::line(operation));
    }
    text
}

fn service_row(service: &Service) -> [String; 6] {
    let state = if service.optional == Some(true) { format!("{} (optional)", service.state) } else { service.state.to_string() };
    [
        service.name.clone(),
        state,
        service.kind.clone(),
        service.ready_after_ms.map(duration).unwrap_or_default(),
        service.restarts.to_string(),
        addresses(service).join(" "),
    ]
}

/// How a service is reached: its URLs, else its published ports.
fn addresses(service: &Service) -> Vec<String> {
    if service.urls.is_empty() {
        return service.ports.iter().map(|port| format!("{}:{}", port.address, port.host)).collect();
    }
    service.urls.values().cloned().collect()
}

/// Rows are in the order of the services, and each begins with its name, so the state is the next word.
fn coloured_states(table: &str, services: &[Service]) -> String {
    let mut lines = table.lines();
    let mut text = lines.next().unwrap_or_default().to_owned();
    for (line, service) in lines.zip(services) {
        let (name, rest) = line.split_at(service.name.len());
        let word = service.state.as_str();
        text.push('\n');
        text.push_str(name);
        text.push_str(&rest.replacen(word, &paint(state_style(service.state), word), 1));
    }
    text
}

/// The end of `up`: the addresses of all services.
pub(super) fn endpoints(status: &Status) -> String {
    let rows = status.services.iter().flat_map(|service| {
        let many = service.urls.len() > 1;
        let named = service.urls.iter().map(move |(name, url)| {
            let name = if many { format!("{} {name}", service.name) } else { service.name.clone() };
            [name, service.state.to_string(), url.clone()]
        });
        let plain = if service.urls.is_empty() { addresses(service) } else { Vec::new() };
        named.chain(plain.into_iter().map(|address| [service.name.clone(), service.state.to_string(), address]))
    });
    let rows: Vec<[String; 3]> = rows.collect();
    if rows.is_empty() { String::new() } else { columns(["SERVICE", "STATE", "ADDRESS"], rows) }
}

pub(super) fn plan(plan: &Plan) -> String {
    let mut text = if plan.steps.is_empty() { "nothing to do".to_owned() } else { steps(plan) };
    if !plan.host_powers.is_empty() {
        let _ = write!(text, "\n{}:\n{}", paint(BOLD, "host powers"), super::powers::listed(&plan.host_powers.iter().collect::<Vec<_>>()));
    }
    for entry in &plan.scripts {
        let _ = write!(text, "\n{}", script(entry));
    }
    for name in &plan.overridden {
        let _ = write!(text, "\n{}", overridden(name));
    }
    text
}

/// What `up` does about a script that is not applied as it is now.
fn script(entry: &LedgerEntry) -> String {
    let LedgerEntry { path, service, .. } = entry;
    let does = match entry.state {
        LedgerState::Changed => return format!("{}: {}", paint(WARN, "drift"), changed_script(entry)),
        LedgerState::Interrupted => {
            format!("was applied to {service} only in part, and is not applied again unless you choose: see `devenv ledger`")
        }
        LedgerState::Failed => format!("failed in {service}, and is applied again"),
        LedgerState::Pending | LedgerState::Applied => format!("is applied to {service}"),
    };
    format!("{}: {path} {does}", paint(BOLD, "script"))
}

/// What becomes of a script that has changed since it was applied.
pub(super) fn changed_script(entry: &LedgerEntry) -> String {
    format!(
        "{0} has changed since it was applied to {1}, and is not applied again: `devenv reset {1}` starts over with it, \
         `devenv ledger accept {0}` keeps the data",
        entry.path, entry.service
    )
}

fn overridden(name: &str) -> String {
    format!("{}: the profile replaces {name}, which may not lead to this environment", paint(WARN, "override"))
}

fn steps(plan: &Plan) -> String {
    columns(
        ["SERVICE", "ACTION", "CONSEQUENCE", "REASON"],
        plan.steps.iter().map(|step| {
            let consequence = match step.consequence {
                Consequence::DataLoss => "DATA LOSS".to_owned(),
                Consequence::None | Consequence::Restart | Consequence::Recreate => step.consequence.to_string(),
            };
            [step.service.clone(), step.action.to_string(), consequence, step.reason.clone()]
        }),
    )
}

pub(super) fn environments(environments: &[Status]) -> String {
    if environments.is_empty() {
        return "no environments".to_owned();
    }
    columns(
        ["ENVIRONMENT", "PHASE", "PROFILE", "INSTANCE", "PROJECT"],
        environments.iter().map(|status| {
            let profile = status.profile.clone().unwrap_or_else(|| "-".to_owned());
            [status.environment.clone(), status.phase.to_string(), profile, status.instance.clone(), status.project.clone()]
        }),
    )
}

pub(super) fn subnets(environments: &[Status]) -> String {
    if environments.is_empty() {
        return "no environments".to_owned();
    }
    let row = |status: &Status| {
        let subnet = status.subnet.clone().unwrap_or_else(|| "-".to_owned());
        [subnet, status.environment.clone(), status.phase.to_string(), status.instance.clone(), status.project.clone()]
    };
    columns(["SUBNET", "ENVIRONMENT", "PHASE", "INSTANCE", "PROJECT"], environments.iter().map(row))
}

#[cfg(test)]
mod tests {
    use devenv_api::{Action, Port, Step};

    use super::*;

    fn service(name: &str, state: ServiceState) -> Service {
        let ports = vec![Port { container: 5432, host: 15432, address: "127.0.0.1".to_owned() }];
        Service { ports, ..Service::new(name, "postgres", state) }
    }

    fn environment() -> Status {
        let mut ready = service("ready", ServiceState::Ready);
        ready.ready_after_ms = Some(812);
        ready.urls = [("page", "http://127.0.0.1:1"), ("otlp", "http://127.0.0.1:2")].map(|(k, v)| (k.into(), v.into())).into();
        let mut cache = service("cache", ServiceState::CrashLoop);
        cache.restarts = 5;
        cache.optional = Some(true);
        cache.reason = Some("exit code 137, killed".to_owned());
        Status {
            environment: "shop-default-1".to_owned(),
            project: "/work/shop".to_owned(),
            instance: "default".to_owned(),
            profile: Some("shop".to_owned()),
            phase: Phase::Degraded,
            services: vec![ready, cache],
            elapsed_ms: None,
            drift: Vec::new(),
            faults: Vec::new(),
            operations: Vec::new(),
            overridden: Vec::new(),
            project_gone: false,
            subnet: None,
            timings: None,
        }
    }

    #[test]
    fn status_shows_a_line_a_service_and_the_reasons_below() {
        let text = status(&environment());
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r"
        /work/shop default, profile shop: degraded
        SERVICE  STATE                  KIND      READY AFTER  RESTARTS  ADDRESS
        ready    ready                  postgres  812 ms       0         http://127.0.0.1:1 http://127.0.0.1:2
        cache    crash-loop (optional)  postgres               5         127.0.0.1:15432
        cache: exit code 137, killed
        ");
    }

    #[test]
    fn the_state_is_coloured_and_not_a_service_of_that_name() {
        let text = status(&environment());
        assert!(text.contains(&format!("\nready    {}", paint(GOOD, "ready"))), "{text:?}");
    }

    #[test]
    fn endpoints_are_a_line_each() {
        let text = endpoints(&environment());
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r"
        SERVICE     STATE       ADDRESS
        ready page  ready       http://127.0.0.1:1
        ready otlp  ready       http://127.0.0.1:2
        cache       crash-loop  127.0.0.1:15432
        ");
    }

    #[test]
    fn a_plan_shouts_only_where_data_is_lost() {
        let step = |service: &str, action, consequence| Step {
            service: service.to_owned(),
            action,
            consequence,
            reason: "settings.shared_buffers changed".to_owned(),
        };
        let plan = plan(&Plan {
            steps: vec![step("db", Action::Recreate, Consequence::DataLoss), step("cache", Action::None, Consequence::None)],
            scripts: [("1.sql", LedgerState::Changed), ("2.sql", LedgerState::Pending)]
                .map(|(path, state)| LedgerEntry {
                    service: "db".to_owned(),
                    database: None,
                    path: path.to_owned(),
                    checksum: String::new(),
                    mode: devenv_api::LedgerMode::Once,
                    state,
                    applied_at: None,
                    duration_ms: None,
                    rows: None,
                    error: None,
                })
                .to_vec(),
            host_powers: vec![devenv_api::HostPower {
                service: "api".to_owned(),
                power: devenv_api::PowerKind::Process,
                detail: "npm start".to_owned(),
            }],
            overridden: vec!["DATABASE_URL".to_owned()],
        });
        insta::assert_snapshot!(anstream::adapter::strip_str(&plan).to_string(), @r"
        SERVICE  ACTION    CONSEQUENCE  REASON
        db       recreate  DATA LOSS    settings.shared_buffers changed
        cache    none      none         settings.shared_buffers changed
        host powers:
          api runs on this machine: npm start
        drift: 1.sql has changed since it was applied to db, and is not applied again: `devenv reset db` starts over with it, `devenv ledger accept 1.sql` keeps the data
        script: 2.sql is applied to db
        override: the profile replaces DATABASE_URL, which may not lead to this environment
        ");
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        let cases = [(0, "0 ms"), (812, "812 ms"), (3250, "3.2 s"), (59_999, "59.9 s"), (250_000, "4 m 10 s"), (7_500_000, "2 h 05 m")];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(milliseconds), expected);
        }
    }
}
