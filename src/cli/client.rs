//! `devenv psql`, `redis` and `open`: opens a service in its usual client.

use std::{collections::BTreeMap, os::unix::process::CommandExt, process::Command};

use devenv_api::{ApiError, ErrorCode, ExecRequest, VariablesFor, VariablesRequest};
use indexmap::IndexMap;

use super::{
    Outcome, exec,
    exit::ExitStatus,
    failure::{Failure, internal, usage},
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
    let found = addresses(session, arguments.service.as_deref(), "DATABASE_URL", "postgres").await?;
    let host = psql_call(&found.host, &arguments.arguments)?;
    // The client in the container reaches its own server; the path of the authority's certificate is one of the host.
    let inside = psql_call(&found.inside, &arguments.arguments)?;
    run(session, found.service, host, inside).await
}

pub(super) async fn redis(arguments: &Redis, session: &Session) -> Outcome {
    let found = addresses(session, arguments.service.as_deref(), "REDIS_URL", "redis").await?;
    let trust = match &found.authority {
        Some(file) => vec!["--cacert".to_owned(), file.clone()],
        None => vec!["--insecure".to_owned()],
    };
    let host = redis_call(&found.host, trust, &arguments.arguments)?;
    // On the loopback of the server's own container, where the certificate's name is another.
    let inside = redis_call(&found.inside, vec!["--insecure".to_owned()], &arguments.arguments)?;
    run(session, found.service, host, inside).await
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
    if url.starts_with("http") {
        open_in_browser(url);
    }
    Ok(ExitStatus::SUCCESS)
}

/// If there is no screen, or no browser can be started, the address that was printed remains.
pub(super) fn open_in_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let has_screen = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if has_screen {
        let _ = Command::new(opener).arg(url).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
    }
}

/// A program with what it gets. Every user of the machine can read a program's arguments, so a password is only in a variable.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    program: &'static str,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
}

impl Call {
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).envs(&self.variables);
        command
    }
}

/// The host's client in the place of this process, else the one in the service's container.
async fn run(session: &Session, service: String, host: Call, inside: Call) -> Outcome {
    // Returns only if it could not take this process's place.
    let error = host.command().exec();
    if error.kind() != std::io::ErrorKind::NotFound {
        return Err(ApiError::new(ErrorCode::Failed, format!("cannot run {}: {error}", host.program)).into());
    }
    let command = std::iter::once(inside.program.to_owned()).chain(inside.arguments).collect();
    let request = ExecRequest { tty: true, environment: inside.variables, ..ExecRequest::of(session.target()?, service, command) };
    exec::in_service(request, session).await
}

/// `psql URL …`, with the address without its password.
fn psql_call(address: &str, more: &[String]) -> Result<Call, Failure> {
    let mut url = parsed(address)?;
    let password = decoded(url.password().unwrap_or_default());
    // Refused only for addresses without a host, which have no password either.
    let _ = url.set_password(None);
    let arguments = std::iter::once(url.to_string()).chain(more.iter().cloned()).collect();
    Ok(Call { program: "psql", arguments, variables: BTreeMap::from([("PGPASSWORD".to_owned(), password)]) })
}

/// `redis-cli -h HOST …`: its `-u` takes an address only together with the password.
fn redis_call(address: &str, trust: Vec<String>, more: &[String]) -> Result<Call, Failure> {
    let url = parsed(address)?;
    let mut arguments: Vec<String> = ["-h", url.host_str().unwrap_or("127.0.0.1"), "-p"].map(str::to_owned).into();
    arguments.push(url.port().unwrap_or(6379).to_string());
    let database = url.path().trim_start_matches('/');
    if !matches!(database, "" | "0") {
        arguments.extend(["-n".to_owned(), database.to_owned()]);
    }
    let user = decoded(url.username());
    if !matches!(user.as_str(), "" | "default") {
        arguments.extend(["--user".to_owned(), user]);
    }
    if url.scheme() == "rediss" {
        arguments.push("--tls".to_owned());
        arguments.extend(trust);
    }
    arguments.extend(more.iter().cloned());
    let password = decoded(url.password().unwrap_or_default());
    // A server without a password refuses an empty one, which the client reports.
    let variables = Some(password).filter(|password| !password.is_empty()).map(|password| ("REDISCLI_AUTH".to_owned(), password));
    Ok(Call { program: "redis-cli", arguments, variables: variables.into_iter().collect() })
}

fn parsed(address: &str) -> Result<url::Url, Failure> {
    // The address itself holds a password, so the message does not repeat it.
    url::Url::parse(address).map_err(|error| internal("cannot read the address of the service", error).into())
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The addresses of one service.
struct Addresses {
    service: String,
    host: String,
    /// As its own container has it.
    inside: String,
    /// The certificate of the local authority, where the service encrypts.
    authority: Option<String>,
}

async fn addresses(session: &Session, service: Option<&str>, short: &str, scheme: &str) -> Result<Addresses, Failure> {
    let client = session.client().await?;
    let target = session.target()?;
    let variables = async |form: VariablesFor| -> Result<IndexMap<String, String>, Failure> {
        let request = VariablesRequest { target: target.clone(), form, service: None };
        let variables = client.variables(&request).await?.variables;
        Ok(variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    };
    let (host, container) = (variables(VariablesFor::Host).await?, variables(VariablesFor::Container).await?);
    let name = service.map_or_else(|| short.to_owned(), |service| format!("{}_URL", devenv_spec::variable_form(service)));
    let is_it = |url: &&String| url.starts_with(scheme);
    let Some((url, inside)) = host.get(&name).filter(is_it).zip(container.get(&name)) else {
        let message = match service {
            Some(service) => format!("`{service}` has no address of `{scheme}` on the host"),
            None => format!("no service of this environment has an address of `{scheme}` on the host"),
        };
        return Err(usage(message).hint("publish its port, or run the client in its container: `devenv exec SERVICE -- COMMAND`").into());
    };
    // `scheme://user:password@SERVICE:PORT/…`
    let mut inside = parsed(inside)?;
    let named = inside.host_str().unwrap_or_default().to_owned();
    inside.set_host(Some("127.0.0.1")).map_err(|error| internal("cannot write the address of the service", error))?;
    Ok(Addresses {
        service: service.map_or(named, str::to_owned),
        host: url.clone(),
        inside: inside.to_string(),
        authority: host.get("DEVENV_CA_FILE").cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every user of the machine can read of a process while it runs.
    fn visible(call: &Call) -> String {
        let command = call.command();
        // A shell that waits, with the arguments and variables that the client gets.
        let mut shell = Command::new("sh");
        shell.args(["-c", "read line", call.program]).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = shell.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut seen = String::new();
        // Between fork and exec it still has this test's command line.
        while !seen.contains("read line") {
            seen = String::from_utf8(std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap()).unwrap();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        seen
    }

    #[test]
    fn no_password_is_in_the_command_line_of_a_client() {
        let more = ["-c".to_owned(), "select 1".to_owned()];
        let call = psql_call("postgres://app:s3cr%2Ft@127.0.0.1:20000/app?sslmode=verify-full&sslrootcert=%2Fca.crt", &more).unwrap();
        assert_eq!(call.arguments, ["postgres://app@127.0.0.1:20000/app?sslmode=verify-full&sslrootcert=%2Fca.crt", "-c", "select 1"]);
        assert_eq!(call.variables["PGPASSWORD"], "s3cr/t");
        assert!(!visible(&call).contains("s3cr"));

        let call = redis_call("redis://default:s3cr3t@127.0.0.1:20000/0", Vec::new(), &["info".to_owned()]).unwrap();
        assert_eq!(call.arguments, ["-h", "127.0.0.1", "-p", "20000", "info"]);
        assert_eq!(call.variables["REDISCLI_AUTH"], "s3cr3t");
        let open = redis_call("redis://127.0.0.1:7000/0", Vec::new(), &[]).unwrap();
        assert!(open.variables.is_empty(), "a server without a password is given none");
        assert!(!visible(&call).contains("s3cr"));

        let trust = vec!["--cacert".to_owned(), "/ca.crt".to_owned()];
        let call = redis_call("rediss://jobs:s3cr3t@127.0.0.1:20000/2", trust, &[]).unwrap();
        assert_eq!(call.arguments, ["-h", "127.0.0.1", "-p", "20000", "-n", "2", "--user", "jobs", "--tls", "--cacert", "/ca.crt"]);
        assert!(!visible(&call).contains("s3cr"));
    }
}
