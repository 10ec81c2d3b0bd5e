//! `devenv move --from-compose`: takes over the data that Docker Compose has made for the project's Compose file.

use devenv_api::{ApiError, ErrorCode, OperationRequest, TakeOverRequest, TakenOver};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::usage,
    operation::carry_out,
    printer::{NAME, paint},
    project::{self, Selection},
    session::Session,
};

#[derive(Debug, clap::Args)]
pub(crate) struct FromCompose {
    /// Copy the data of this project of Docker Compose. Default: the name that Docker Compose gives the project of the file.
    #[arg(long, value_name = "PROJECT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    from_compose: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

pub(super) async fn run(arguments: &FromCompose, session: &Session) -> Outcome {
    let current = project::current_unless_named(session, &arguments.selection, &[]).await?;
    let selected = project::select(session, &arguments.selection, &[], current)?;
    let known = selected.loaded.compose_project().ok_or_else(|| {
        usage(format!("`{}` is a profile: data of Docker Compose is taken over with the Compose file that it was made for", selected.name))
            .hint("name the file with `-f compose.yaml`; for databases of a profile, use `devenv import`")
    })?;
    let compose_project = match arguments.from_compose.as_deref() {
        None | Some("") => known.to_owned(),
        Some(named) => named.to_owned(),
    };
    if compose_project.is_empty() {
        return Err(ApiError::new(ErrorCode::Usage, "the project of Docker Compose has no name")
            .hint("write `--from-compose=NAME`")
            .into());
    }
    let up = project::up_request(session, &selected.name, &selected.loaded)?;
    let request = OperationRequest::TakeOver(TakeOverRequest { up, compose_project });
    let taken: TakenOver = carry_out(session, &session.client().await?, request).await?;
    session.printer.result(&taken, || lines(&taken))?;
    for name in &taken.left {
        session.printer.say(format_args!("{name} was not copied: no service of the file has a volume of devenv for it"));
    }
    if !taken.running {
        session.printer.say("run `devenv up` to start on this data");
    }
    Ok(ExitStatus::SUCCESS)
}

fn lines(taken: &TakenOver) -> String {
    let lines: Vec<String> = taken
        .volumes
        .iter()
        .map(|volume| {
            let size = volume.size.map(|size| format!(", {}", bytesize::ByteSize(size).display().si())).unwrap_or_default();
            format!("{} {} is a copy of {}{size}", paint(NAME, &volume.service), volume.volume, volume.from)
        })
        .collect();
    lines.join("\n")
}
