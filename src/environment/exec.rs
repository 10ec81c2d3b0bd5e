//! Runs a command in a service for a client: carries its input, output, terminal size and exit code.

use std::time::Duration;

use devenv_api::{ApiError, DaemonCodec, ErrorCode, ExecInput, ExecOutput, ExecRequest};
use devenv_engine::{EngineError, ExecSession, ExecStream, SessionRequest, TerminalSize};
use devenv_spec::{ContainerSpec, Workload};
use futures_util::{SinkExt, StreamExt, TryFutureExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::Framed;

use super::{Environment, Environments};
use crate::{
    error::{describe, internal, no_engine},
    reconcile::{CommandError, Effects, Leaving, Subject},
};

/// How long the engine may take to begin a command, or to make a container for one. Each of its answers has a limit too; this one
/// is for all of them together.
const BEGINS: Duration = Duration::from_mins(2);
/// The same for the image of that container, which may be pulled or built.
const IMAGE: Duration = Duration::from_mins(30);

/// Ends with an error if the engine does not answer.
async fn answered<T>(limit: Duration, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the container engine has not answered for {} minutes", limit.as_secs() / 60);
        Err(ApiError::new(ErrorCode::NoEngine, message).hint("run `devenv doctor` to check the engine"))
    })
}

/// A container that was made for one command.
pub(crate) struct OneOff {
    /// Its id, if it must be removed when the command has ended.
    pub(crate) remove: Option<String>,
}

impl Environments {
    /// Starts the command in a container of its own.
    pub(crate) async fn run_once(&self, request: &ExecRequest) -> Result<(ExecSession, OneOff), ApiError> {
        let environment = self.require(&request.target)?;
        environment.awake(&[], "a command runs beside it").await?;
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let spec = record.spec.as_ref().and_then(|spec| spec.services.get(request.service.as_str())).cloned();
        let Some(spec) = spec else {
            return Err(CommandError::NoService(request.service.clone()).into());
        };
        let Some(container) = spec.container().cloned() else {
            let message = format!("`{}` is a process on the host, so there is no image to run a command in", spec.name);
            return Err(ApiError::new(ErrorCode::Usage, message).hint("run `devenv run -- COMMAND`"));
        };
        if environment.handle.status().phase == devenv_api::Phase::Absent {
            return Err(ApiError::new(ErrorCode::Failed, "the environment is not running").hint("run `devenv up` to start it"));
        }
        let effects = Effects {
            engine: self.engine().clone(),
            owner: self.shared.owner.clone(),
            vault: environment.vault.clone(),
            runtime: environment.runtime.clone(),
            offline: environment.offline.clone(),
        };
        let failed = |error: crate::reconcile::OperationError| ApiError::new(ErrorCode::Failed, describe(&error));
        let (progress, _) = tokio::sync::mpsc::channel(1);
        answered(IMAGE, async { effects.ensure_image(&spec, &progress).await.map_err(failed) }).await?;
        let subject = Subject { record: std::sync::Arc::new(record), spec, instance: None, network: None, leaving: Leaving::Nothing };
        let (id, before) = answered(BEGINS, async { effects.create_one_off(&subject).await.map_err(failed) }).await?;
        let command = before.into_iter().chain(request.command.iter().cloned()).collect();
        let session = self.session(&environment, &id, Some(&container), &ExecRequest { command, ..request.clone() }).await;
        if session.is_err() {
            // The command will not run, so its container is removed; if the engine does not answer, `gc` removes it.
            let _ = tokio::time::timeout(BEGINS, self.engine().remove_container(&id)).await;
        }
        Ok((session?, OneOff { remove: (!request.keep).then_some(id) }))
    }

    /// Starts the command if its service is a running container.
    pub(crate) async fn exec(&self, request: &ExecRequest) -> Result<ExecSession, ApiError> {
        let environment = self.require(&request.target)?;
        // An unknown name is reported below.
        if let Ok(name) = request.service.parse() {
            environment.awake(&[name], "a command runs in it").await?;
        }
        let status = environment.handle.status();
        let Some(service) = status.services.into_iter().find(|service| service.name == request.service) else {
            return Err(CommandError::NoService(request.service.clone()).into());
        };
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let spec = record.spec.as_ref().and_then(|spec| spec.services.get(request.service.as_str()));
        if spec.is_some_and(|spec| matches!(spec.workload, Workload::Process(_))) {
            let message = format!("`{}` is a process on the host, so there is no container to run a command in", service.name);
            return Err(ApiError::new(ErrorCode::Usage, message)
                .hint("run `devenv run -- COMMAND` to run a command on the host with the environment's variables"));
        }
        let Some(container) = service.container else {
            let message = format!("`{}` is not running: it is {}", service.name, service.state);
            return Err(ApiError::new(ErrorCode::Failed, message).hint(format!("run `devenv start {}` to start it", service.name)));
        };
        // A new process in a paused container is paused too, and would not answer until the fault is over.
        answered(BEGINS, self.refuse_paused(&environment, &service.name, "no command can run in it")).await?;
        self.session(&environment, &container, spec.and_then(|spec| spec.container()), request).await
    }

    async fn session(
        &self,
        environment: &Environment,
        container: &str,
        spec: Option<&ContainerSpec>,
        request: &ExecRequest,
    ) -> Result<ExecSession, ApiError> {
        // They are not in the container's description, so the engine does not pass them to the command.
        let secrets = spec.into_iter().flat_map(ContainerSpec::secret_variables);
        let mut variables = environment.vault.resolve_all(secrets).map_err(internal)?;
        variables.extend(request.environment.clone());
        let session = SessionRequest {
            command: request.command.clone(),
            user: request.user.clone(),
            environment: variables,
            directory: request.directory.clone(),
            terminal: request.tty.then(|| {
                request.size.map_or(TerminalSize { columns: 80, rows: 24 }, |size| TerminalSize { columns: size.columns, rows: size.rows })
            }),
        };
        let begin = self.engine().exec_session(container, session).map_err(|error| match error {
            EngineError::Unreachable { .. } => no_engine(&error),
            other => ApiError::new(ErrorCode::Failed, other.to_string()),
        });
        answered(BEGINS, begin).await
    }
}

/// Forwards data in both directions until the command has ended or the client has gone.
pub(crate) async fn carry(connection: impl AsyncRead + AsyncWrite + Unpin, session: ExecSession) {
    let ExecSession { mut input, mut output, resize, exit_code } = session;
    let (mut client, mut asked) = Framed::new(connection, DaemonCodec).split();
    let incoming = async {
        while let Some(Ok(message)) = asked.next().await {
            let result = match message {
                ExecInput::Stdin(bytes) => input.write_all(&bytes).await,
                ExecInput::StdinEnd => input.shutdown().await,
                ExecInput::Resize(size) => {
                    // A terminal of the wrong size is not an error.
                    let _ = resize(TerminalSize { columns: size.columns, rows: size.rows }).await;
                    Ok(())
                }
            };
            if result.is_err() {
                // The command reads no more input, but may still write.
                std::future::pending::<()>().await;
            }
        }
    };
    let outgoing = async {
        let mut broken = None;
        while let Some(chunk) = output.next().await {
            let message = match chunk {
                Ok((ExecStream::Stdout, bytes)) => ExecOutput::Stdout(bytes),
                Ok((ExecStream::Stderr, bytes)) => ExecOutput::Stderr(bytes),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            };
            if client.send(message).await.is_err() {
                return;
            }
        }
        let code = match broken {
            Some(error) => Err(error),
            None => exit_code.await,
        };
        let last = match code {
            Ok(code) => ExecOutput::Exited(code as i32),
            Err(error) => ExecOutput::Failed(ApiError::new(ErrorCode::Failed, error.to_string())),
        };
        // A client that is gone needs no exit code.
        let _ = client.send(last).await;
        let _ = client.close().await;
    };
    tokio::select! {
        () = outgoing => {}
        // The client has gone: the command keeps running, with its input closed.
        () = incoming => {}
    }
}
