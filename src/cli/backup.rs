//! `devenv backup`, `import` and `export`: dumps, with counts and checksums.

use std::{
    io::{self, Read},
    path::PathBuf,
};

use devenv_api::{
    ApiError, Backup, Client, Compared, DownRequest, Drill, ErrorCode, OperationRequest, RestoreRequest, Restored, ServicesRequest, Status,
    TransferRequest, Transferred,
};
use devenv_kinds::capability::FileUse;
use url::Url;

use super::{
    Outcome,
    args::absolute,
    exit::ExitStatus,
    failure::{Failure, usage},
    operation::carry_out,
    project,
    session::Session,
    table,
};
use crate::paths;

/// Back up data, list backups, restore them, and test a restore.
///
/// Uses pg_dump for PostgreSQL, mariadb-dump for MariaDB, BGSAVE for Redis and a file-by-file copy for S3 stores and RabbitMQ, and records row counts and checksums. Keeps
/// the last backup of each of the last seven days; backups of single services are counted separately from full ones. Removing
/// volumes does not remove backups.
///
/// Example: devenv backup db
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// The services to back up. Default: all that support backups.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the backups, oldest first.
    ///
    /// Example: devenv backup list
    List,
    /// Replace the current data with a backup.
    ///
    /// Verifies row counts and checksums before it switches. Services that switch to another volume restart.
    ///
    /// Example: devenv backup restore latest
    Restore {
        /// The backup's id from `devenv backup list`, or `latest`.
        id: String,
    },
    /// Restore the latest backup into a temporary environment, verify it, and measure how long that takes.
    ///
    /// Reports the recovery time (from an empty environment to verified data) and the recovery point (the age of the backup).
    /// Removes the temporary environment at the end. Does not touch the current environment.
    ///
    /// Example: devenv backup drill --json
    Drill,
}

/// Replace a service's data with a dump from a file or another server.
///
/// PostgreSQL: a dump in custom format, a plain dump (`.sql`), a directory of `DATABASE.dump` files, or a URL. Redis: an RDB file.
/// Backs up the current data first, and compares the imported data with its source before it switches.
///
/// Every user of the machine can read a password on the command line. To keep it out of there, pass the URL with `--url-file`, in
/// DEVENV_IMPORT_URL, or on standard input with `-`.
///
/// Example: devenv import db shop.dump
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The service to import into.
    service: String,
    /// A dump file, a `postgres://…` URL, or `-` to read the URL from standard input. Default: the URL in DEVENV_IMPORT_URL.
    #[arg(value_name = "FILE|URL")]
    place: Option<String>,
    /// Read the URL from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "place")]
    url_file: Option<PathBuf>,
    /// The database to import into. Default: the first.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// Write a service's data to a dump file that other servers can load.
///
/// PostgreSQL is written in custom format (every database if FILE is a directory), Redis as an RDB file. Row counts and checksums
/// are written next to it.
///
/// Example: devenv export db shop.dump
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// The service to export from.
    service: String,
    /// The file or directory to write.
    #[arg(value_name = "FILE")]
    place: String,
    /// The database to export. Default: the first.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// The name of the drill's environment, which is temporary.
const DRILL: &str = "backup-drill";

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    match &arguments.action {
        None => {
            let request = OperationRequest::Backup(ServicesRequest { target, services: arguments.services.clone() });
            let backup: Backup = carry_out(session, &client, request).await?;
            session.printer.result(&backup, || table_of(std::slice::from_ref(&backup)))?;
        }
        Some(Action::List) => {
            let backups = client.backups(&target).await?;
            session
                .printer
                .result(&backups, || if backups.backups.is_empty() { "no backups".to_owned() } else { table_of(&backups.backups) })?;
        }
        Some(Action::Restore { id }) => {
            let request = OperationRequest::BackupRestore(RestoreRequest { target, from: None, id: id.clone() });
            let restored: Restored = carry_out(session, &client, request).await?;
            session.printer.result(&restored, || {
                format!("{}\nrestored {} in {}", compared(&restored.services), restored.backup, table::duration(restored.elapsed_ms))
            })?;
            return Ok(status(restored.verified));
        }
        Some(Action::Drill) => {
            let drill = drill(session, &client).await?;
            session.printer.result(&drill, || {
                let verdict = if drill.verified { "verified" } else { "DIFFERENT from the backup" };
                format!(
                    "{}\n{} restored, {verdict}\nrecovery time {} (start {})\nrecovery point {} ago",
                    compared(&drill.services),
                    drill.backup,
                    table::duration(drill.rto_ms),
                    table::duration(drill.start_ms),
                    table::duration(drill.rpo_ms)
                )
            })?;
            return Ok(status(drill.verified));
        }
    }
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn import(arguments: &Import, session: &Session) -> Outcome {
    let place = place_of(arguments, session, std::env::var(paths::IMPORT_URL).ok(), std::io::stdin())?;
    let request =
        TransferRequest { target: session.target()?, service: arguments.service.clone(), place, database: arguments.database.clone() };
    let transferred: Transferred = carry_out(session, &session.client().await?, OperationRequest::Import(request)).await?;
    print_transfer(session, &transferred, "imported from")?;
    Ok(status(transferred.verified))
}

/// A longer text is not the URL of a database.
const LONGEST_URL: u64 = 64 << 10;

/// The source of the data: a URL as it is, a file by its absolute path.
fn place_of(arguments: &Import, session: &Session, variable: Option<String>, input: impl Read) -> Result<String, Failure> {
    let address = |text: String| {
        let text = text.trim();
        if text.contains("://") {
            Ok(text.to_owned())
        } else {
            Err(usage("not a database URL: expected `postgres://USER:PASSWORD@HOST:PORT/DATABASE`"))
        }
    };
    let unreadable = |name: &str, error: io::Error| usage(format!("cannot read {name}: {error}"));
    match (arguments.place.as_deref(), &arguments.url_file) {
        (Some("-"), _) => Ok(address(io::read_to_string(input.take(LONGEST_URL)).map_err(|error| unreadable("standard input", error))?)?),
        (Some(place), _) if place.contains("://") => {
            if has_password(place) {
                session.printer.say(
                    "the URL on the command line contains a password that every user of this machine can read; use `--url-file`, \
                        DEVENV_IMPORT_URL or `-` to keep it private",
                );
            }
            Ok(place.to_owned())
        }
        (Some(place), _) => Ok(absolute(place)?),
        (None, Some(file)) => {
            Ok(address(devenv_files::read_text_bounded(file, LONGEST_URL).map_err(|error| usage(format!("{} {error}", file.display())))?)?)
        }
        (None, None) => match variable {
            Some(text) => Ok(address(text)?),
            None => Err(usage("no source to import from")
                .hint("pass a file with `devenv import SERVICE FILE`, or set DEVENV_IMPORT_URL")
                .into()),
        },
    }
}

/// `scheme://user:password@host`
fn has_password(address: &str) -> bool {
    match Url::parse(&address.replace('#', "%23")) {
        Ok(url) => url.password().is_some() || url.query_pairs().any(|(option, _)| option == "password"),
        // A URL that cannot be parsed may contain a password.
        Err(_) => address.contains('@'),
    }
}

pub(super) async fn export(arguments: &Export, session: &Session) -> Outcome {
    let request = TransferRequest {
        target: session.target()?,
        service: arguments.service.clone(),
        place: absolute(&arguments.place)?,
        database: arguments.database.clone(),
    };
    let transferred: Transferred = carry_out(session, &session.client().await?, OperationRequest::Export(request)).await?;
    print_transfer(session, &transferred, "exported to")?;
    Ok(ExitStatus::SUCCESS)
}

fn print_transfer(session: &Session, transferred: &Transferred, verb: &str) -> Result<(), Failure> {
    session.printer.result(transferred, || {
        let former = transferred.backup.as_ref().map(|id| format!("\nthe previous data is in the backup {id}")).unwrap_or_default();
        format!(
            "{}\n{} {verb} {} in {}{former}",
            compared(&transferred.databases),
            transferred.service,
            transferred.place,
            table::duration(transferred.elapsed_ms)
        )
    })?;
    Ok(())
}

async fn drill(session: &Session, client: &Client) -> Result<Drill, Failure> {
    let own = session.target()?;
    let backups = client.backups(&own).await?.backups;
    let Some(latest) = backups.last() else {
        return Err(ApiError::new(ErrorCode::NotFound, "there is no backup to restore").hint("run `devenv backup` to create one").into());
    };
    let mut target = own.clone();
    DRILL.clone_into(&mut target.instance);
    let gone = OperationRequest::Down(DownRequest { target: target.clone(), volumes: true });
    // The environment of a drill that was killed.
    let _: Status = carry_out(session, client, gone.clone()).await?;
    let began = std::time::Instant::now();
    let restored = async {
        let named = project::profile_name(session, None).await?;
        let mut request = project::up_request(session, &named, &project::load(session, &named)?)?;
        request.target = target.clone();
        let services: Vec<&str> = latest.services.iter().filter(|part| part.skipped.is_none()).map(|part| part.service.as_str()).collect();
        only(&mut request.document, &services);
        let _: Status = carry_out(session, client, OperationRequest::Up(request)).await?;
        let start_ms = began.elapsed().as_millis() as u64;
        let restored =
            OperationRequest::BackupRestore(RestoreRequest { target: target.clone(), from: Some(own.clone()), id: latest.id.clone() });
        let restored: Restored = carry_out(session, client, restored).await?;
        Ok::<_, Failure>((restored, start_ms, began.elapsed()))
    };
    let restored = restored.await;
    let _: Status = carry_out(session, client, gone).await?;
    let (restored, start_ms, took) = restored?;
    let made: jiff::Timestamp =
        latest.created_at.parse().map_err(|error| super::failure::internal("cannot parse the backup's time", error))?;
    let rpo_ms = jiff::Timestamp::now().duration_since(made).unsigned_abs().as_millis() as u64;
    Ok(Drill {
        backup: latest.id.clone(),
        verified: restored.verified,
        rto_ms: took.as_millis() as u64,
        rpo_ms,
        start_ms,
        services: restored.services,
    })
}

/// The profile with only these services, without dependencies on others, fixed ports, or data of their own.
fn only(document: &mut serde_json::Value, names: &[&str]) {
    let Some(services) = document.get_mut("services").and_then(serde_json::Value::as_object_mut) else { return };
    services.retain(|name, _| names.contains(&name.as_str()));
    for service in services.values_mut().filter_map(serde_json::Value::as_object_mut) {
        for field in ["depends_on", "ports"] {
            empty(service, field);
        }
        for kind in devenv_kinds::all() {
            let Some(fields) = find(service, kind.name()) else { continue };
            for field in kind.files().iter().filter(|field| field.used_for == FileUse::Script) {
                empty_below(fields, field.path);
            }
        }
    }
}

/// Removes the value of a key that is set.
fn empty(fields: &mut serde_json::Map<String, serde_json::Value>, name: &str) {
    match fields.get_mut(name) {
        Some(serde_json::Value::Object(map)) => map.clear(),
        Some(serde_json::Value::Array(list)) => list.clear(),
        _ => {}
    }
}

/// The same for the value at the path; `*` is every entry of a mapping.
fn empty_below(fields: &mut serde_json::Map<String, serde_json::Value>, path: &[&str]) {
    match path {
        [] => {}
        [name] => empty(fields, name),
        [name, "*", rest @ ..] => {
            let entries = fields.get_mut(*name).and_then(serde_json::Value::as_object_mut);
            for entry in entries.into_iter().flat_map(serde_json::Map::values_mut).filter_map(serde_json::Value::as_object_mut) {
                empty_below(entry, rest);
            }
        }
        [name, rest @ ..] => {
            if let Some(fields) = fields.get_mut(*name).and_then(serde_json::Value::as_object_mut) {
                empty_below(fields, rest);
            }
        }
    }
}

/// A kind's fields, which are in the service or under its `kind`.
fn find<'a>(
    service: &'a mut serde_json::Map<String, serde_json::Value>,
    kind: &str,
) -> Option<&'a mut serde_json::Map<String, serde_json::Value>> {
    let place =
        if service.contains_key(kind) { service.get_mut(kind) } else { service.get_mut("kind").and_then(|found| found.get_mut(kind)) };
    place.and_then(serde_json::Value::as_object_mut)
}

fn status(verified: bool) -> ExitStatus {
    if verified { ExitStatus::SUCCESS } else { ExitStatus::FAILED }
}

fn table_of(backups: &[Backup]) -> String {
    let rows = backups.iter().map(|backup| {
        let services: Vec<String> = backup
            .services
            .iter()
            .map(|part| match &part.skipped {
                Some(why) => format!("{} skipped: {why}", part.service),
                None => format!("{} ({} rows)", part.service, part.contents.iter().map(|content| content.rows).sum::<u64>()),
            })
            .collect();
        [backup.id.clone(), bytesize::ByteSize(backup.size).to_string(), services.join(", ")]
    });
    table::columns(["BACKUP", "SIZE", "SERVICES"], rows)
}

fn compared(services: &[Compared]) -> String {
    let rows = services.iter().map(|one| {
        let count = |contents: &[devenv_api::Content]| contents.iter().map(|content| content.rows).sum::<u64>().to_string();
        let verdict = if one.differences.is_empty() { "the same".to_owned() } else { one.differences.join("; ") };
        [one.service.clone(), one.after.len().to_string(), count(&one.before), count(&one.after), verdict]
    });
    table::columns(["DATA OF", "PARTS", "ROWS BEFORE", "ROWS AFTER", "COMPARED"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_noticed() {
        assert!(has_password("postgres://ada:secret@db.example:5432/shop"));
        assert!(has_password("postgres://db.example/shop?password=secret"));
        assert!(has_password("postgres://ada:#1@db.example:not-a-port/shop"));
        assert!(!has_password("postgres://ada@db.example:5432/shop"));
        assert!(!has_password("postgres://db.example:5432/shop"));
    }

    #[test]
    fn a_drills_profile_has_what_is_restored_and_nothing_else() {
        let mut document = serde_json::json!({ "services": {
            "db": { "depends_on": { "x": "ready" }, "ports": { "5432": 1 }, "kind": { "postgres": { "version": "17", "seed": ["s"], "databases": { "a": { "init": ["i"] } } } } },
            "api": { "kind": { "process": {} } },
        }});
        only(&mut document, &["db"]);
        assert_eq!(
            document,
            serde_json::json!({ "services": { "db": { "depends_on": {}, "ports": {}, "kind": { "postgres": { "version": "17", "seed": [], "databases": { "a": { "init": [] } } } } } } })
        );
    }
}
