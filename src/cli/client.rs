//! `devenv psql`, `redis` and `open`: a service in the client that one would reach for.

use std::{os::unix::process::CommandExt, process::Command};

use devenv_api::{ApiError, ErrorCode, ExecRequest, VariablesFor, VariablesRequest};
use indexmap::IndexMap;

use super::{
    Outcome, exec,
    exit::ExitStatus,
    failure::{Failure, usage},
    session::Session,
};

/// Open a PostgreSQL service in `psql`.
///
/// Uses the host's `psql` if there is one, else the one in the service's container. Words after `--` are passed on.
///
/// Example: devenv psql db -- -c 'select 1'
#[derive(Debug, clap::Args)]
pub(crate) struct Psql {
    /// The service. Default: the one that `DATABASE_URL` is about.
    service: Option<String>,
    /// Arguments of `psql`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Open a Redis service in `redis-cli`.
///
/// Uses the host's `redis-cli` if there is one, else the one in the service's container. Words after `--` are passed on.
///
/// Example: devenv redis cache -- info memory
#[derive(Debug, clap::Args)]
pub(crate) struct Redis {
    /// The service. Default: the one that `REDIS_URL` is about.
    service: Option<String>,
    /// Arguments of `redis-cli`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Open a service in the browser.
///
/// Prints the address where there is no browser to open it.
///
/// Example: devenv open web
#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    /// The service.
    service: String,
}

pub(super) async fn psql(arguments: &Psql, session: &Session) -> Outcome {
    let (host, container) = urls(session, arguments.service.as_deref(), "DATABASE_URL", "postgres").await?;
    let tool = Tool { program: "psql", before: &[], after_url: &arguments.arguments };
    tool.run(session, arguments.service.as_deref(), &host, &container).await
}

pub(super) async fn redis(arguments: &Redis, session: &Session) -> Outcome {
    let (host, container) = urls(session, arguments.service.as_deref(), "REDIS_URL", "redis").await?;
    let tool = Tool { program: "redis-cli", before: &["--no-auth-warning", "-u"], after_url: &arguments.arguments };
    tool.run(session, arguments.service.as_deref(), &host, &container).await
}

pub(super) async fn open(arguments: &Open, session: &Session) -> Outcome {
    let status = session.client().await?.status(&session.target()?).await?;
    let Some(service) = status.services.iter().find(|service| service.name == arguments.service) else {
        let message = format!("unknown service `{}` in this environment", arguments.service);
        return Err(ApiError::new(ErrorCode::NotFound, message).hint("run `devenv status` to list the services").into());
    };
    let page = service.urls.values().find(|url| url.starts_with("http"));
    let Some(url) = page.or_else(|| service.urls.values().next()) else {
        let message = format!("`{}` has no address on the host", arguments.service);
        return Err(ApiError::new(ErrorCode::Failed, message).hint("publish a port of it").into());
    };
    session.printer.data(url)?;
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let has_screen = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if url.starts_with("http") && has_screen {
        // Where it cannot be opened, the address above is what there is.
        let _ = Command::new(opener).arg(url).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
    }
    Ok(ExitStatus::SUCCESS)
}

/// A client that takes an address.
struct Tool<'a> {
    program: &'static str,
    before: &'static [&'static str],
    after_url: &'a [String],
}

impl Tool<'_> {
    async fn run(&self, session: &Session, service: Option<&str>, host: &str, container: &Url) -> Outcome {
        let words = |url: &str| -> Vec<String> {
            self.before.iter().map(ToString::to_string).chain([url.to_owned()]).chain(self.after_url.iter().cloned()).collect()
        };
        // Returns only if it could not take this process's place.
        let error = Command::new(self.program).args(words(host)).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(ApiError::new(ErrorCode::Failed, format!("cannot run {}: {error}", self.program)).into());
        }
        let command = std::iter::once(self.program.to_owned()).chain(words(&container.inside)).collect();
        let request = ExecRequest {
            target: session.target()?,
            service: service.map_or_else(|| container.service.clone(), str::to_owned),
            command,
            tty: true,
            size: None,
            user: None,
            directory: None,
            one_off: false,
            keep: false,
        };
        exec::in_service(request, session).await
    }
}

/// An address as the service's own container has it.
struct Url {
    service: String,
    inside: String,
}

async fn urls(session: &Session, service: Option<&str>, short: &str, scheme: &str) -> Result<(String, Url), Failure> {
    let client = session.client().await?;
    let target = session.target()?;
    let variables = async |form: VariablesFor| -> Result<IndexMap<String, String>, Failure> {
        let request = VariablesRequest { target: target.clone(), form, service: None };
        let variables = client.variables(&request).await?.variables;
        Ok(variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    };
    let (host, container) = (variables(VariablesFor::Host).await?, variables(VariablesFor::Container).await?);
    let name = service.map_or_else(|| short.to_owned(), |service| format!("{}_URL", crate::spec::variable_form(service)));
    let is_it = |url: &&String| url.starts_with(scheme);
    let Some((url, inside)) = host.get(&name).filter(is_it).zip(container.get(&name)) else {
        let message = match service {
            Some(service) => format!("`{service}` has no address of `{scheme}` on the host"),
            None => format!("no service of this environment has an address of `{scheme}` on the host"),
        };
        return Err(usage(message).hint("publish its port, or run the client in its container: `devenv exec SERVICE -- COMMAND`").into());
    };
    // `scheme://user:password@SERVICE:PORT/…`
    let address = inside.rsplit('@').next().unwrap_or(inside).trim_start_matches("redis://").trim_start_matches("postgres://");
    let named = address.split([':', '/']).next().unwrap_or_default().to_owned();
    let inside = inside.replacen(&format!("{named}:"), "127.0.0.1:", 1);
    Ok((url.clone(), Url { service: named, inside }))
}
