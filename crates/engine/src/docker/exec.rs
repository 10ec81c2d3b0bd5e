//! Commands inside a running container: run to completion, or as an interactive session.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bollard::{models::ExecConfig, query_parameters::ResizeExecOptionsBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::{codec::FramedRead, io::ReaderStream};

use super::{
    client::Client,
    error::gone,
    frames::Frames,
    wire::{Call, Upgraded, segment},
};
use crate::{EngineError, ExecOutput, ExecRequest, ExecSession, ExecStream, SessionRequest, TerminalSize};

const CHUNK: usize = 64 << 10;
/// The most output that is collected, in bytes. Larger output goes through a session, chunk by chunk.
const LARGEST: usize = 64 << 20;
/// Between the end of the output and the exit code, which the engine records shortly after.
const EXIT_CODE: Duration = Duration::from_secs(5);

/// When its deadline expires, the caller gets an error and the connection is dropped. The engine cannot end the command,
/// which keeps running in the container until it exits.
pub(super) async fn run(client: &Client, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError> {
    let deadline = request.deadline;
    let action = format!("run `{}`", request.command.first().map_or("", String::as_str));
    let run = to_its_end(client, id, request);
    match deadline {
        None => run.await,
        Some(limit) => match tokio::time::timeout(limit, run).await {
            Ok(output) => output,
            Err(_) => Err(EngineError::TimedOut { action, limit }),
        },
    }
}

async fn to_its_end(client: &Client, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError> {
    let input = request.input.as_ref().and_then(|input| input.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    let config = ExecConfig {
        attach_stdin: Some(input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(request.command),
        user: request.user,
        env: Some(pairs(&request.environment)),
        working_dir: request.directory,
        privileged: request.privileged.then_some(true),
        ..ExecConfig::default()
    };
    let (exec, stream) = match begin(client, id, config).await {
        Ok(started) => started,
        Err(error) => return not_run(error),
    };
    let (read, mut write) = tokio::io::split(stream);
    let mut frames = FramedRead::with_capacity(read, Frames, CHUNK);
    let feed = async {
        match input {
            Some(input) => feed(input, &mut write).await,
            None => std::future::pending().await,
        }
    };
    // The command may end without reading all its input, so only the end of its output ends this.
    let (mut stdout, mut stderr) = tokio::select! {
        collected = collect(client, &mut frames) => collected?,
        failed = feed => match failed? {},
    };
    let mut code = exit_code(client, &exec).await?;
    if let Some(found) = engine_refusal(code, &stdout) {
        code = found;
        stderr = std::mem::take(&mut stdout);
    }
    Ok(ExecOutput { code, stdout, stderr })
}

fn pairs(environment: &[(String, String)]) -> Vec<String> {
    environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

async fn begin(client: &Client, id: &str, config: ExecConfig) -> Result<(String, Upgraded), EngineError> {
    let body = serde_json::json!({ "Detach": false, "Tty": config.tty == Some(true), "ConsoleSize": config.console_size }).to_string();
    let exec = client.docker.create_exec(id, config).await.map_err(client.explain("run a command in the container"))?.id;
    let call = Call::post("run a command in the container", format!("/exec/{exec}/start"));
    let stream = client.wire.upgrade(call, body).await?;
    Ok((exec, stream))
}

/// Writes the input and closes it. Fails if the input cannot be read, so that the command does not mistake a part for the whole.
async fn feed(mut input: impl AsyncRead + Unpin, write: &mut (impl AsyncWrite + Unpin)) -> Result<Infallible, EngineError> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.clear();
        let count = input.read_buf(&mut buffer).await.map_err(|error| EngineError::Protocol {
            action: "write to a command".to_owned(),
            message: format!("cannot read its input: {error}"),
        })?;
        // A command that stops reading is no error; its output shows how it ended.
        if count == 0 || write.write_all(&buffer).await.is_err() {
            let _ = write.shutdown().await;
            std::future::pending::<()>().await;
        }
    }
}

pub(super) async fn collect(
    client: &Client,
    frames: &mut (impl Stream<Item = io::Result<(ExecStream, Bytes)>> + Unpin),
) -> Result<(Bytes, Bytes), EngineError> {
    let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
    while let Some(frame) = frames.next().await {
        let (stream, content) = frame.map_err(|error| gone(client.endpoint(), format!("the output was interrupted: {error}")))?;
        if stdout.len() + stderr.len() + content.len() > LARGEST {
            return Err(EngineError::TooLarge { action: "keep what a command writes".to_owned(), limit: LARGEST });
        }
        match stream {
            ExecStream::Stdout => stdout.extend_from_slice(&content),
            ExecStream::Stderr => stderr.extend_from_slice(&content),
        }
    }
    Ok((stdout.freeze(), stderr.freeze()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecDocument {
    #[serde(default)]
    running: bool,
    exit_code: Option<i64>,
}

/// The output may be closed while the command still runs, and the engine may report the exit code a little later.
async fn exit_code(client: &Client, exec: &str) -> Result<i64, EngineError> {
    let mut pause = Duration::from_millis(1);
    let read = async {
        loop {
            let call = Call::get("report a command's exit code", format!("/exec/{}/json", segment(exec)));
            match client.wire.read::<ExecDocument>(call).await? {
                ExecDocument { running: false, exit_code: Some(code) } => return Ok(code),
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    };
    match tokio::time::timeout(EXIT_CODE, read).await {
        Ok(code) => code,
        Err(_) => Err(EngineError::TimedOut { action: "report a command's exit code".to_owned(), limit: EXIT_CODE }),
    }
}

/// The beginning of the engine's message that a command cannot be run.
const REFUSAL: &[u8] = b"OCI runtime exec failed";

/// A command that cannot be run: engines report it on its standard output, with a special code. By convention 127 is
/// "not found", 126 everything else.
fn engine_refusal(code: i64, stdout: &[u8]) -> Option<i64> {
    if !matches!(code, 126 | 127) || !stdout.starts_with(REFUSAL) {
        return None;
    }
    Some(refusal_code(&String::from_utf8_lossy(stdout)))
}

fn refusal_code(message: &str) -> i64 {
    let not_found = ["executable file not found", "no such file or directory"];
    if not_found.iter().any(|words| message.contains(words)) { 127 } else { 126 }
}

/// Newer engines refuse before a stream is opened.
fn not_run(error: EngineError) -> Result<ExecOutput, EngineError> {
    match error {
        EngineError::Refused { message, .. } if message.contains("OCI runtime exec failed") => {
            Ok(ExecOutput { code: refusal_code(&message), stdout: Bytes::new(), stderr: message.into() })
        }
        other => Err(other),
    }
}

pub(super) async fn session(client: &Client, id: &str, request: SessionRequest) -> Result<ExecSession, EngineError> {
    let terminal = request.terminal.is_some();
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(terminal),
        console_size: request.terminal.map(|size| vec![size.rows.into(), size.columns.into()]),
        cmd: Some(request.command),
        user: request.user,
        env: Some(pairs(&request.environment)),
        working_dir: request.directory,
        ..ExecConfig::default()
    };
    let (exec, stream) = match begin(client, id, config).await {
        Ok(started) => started,
        Err(error) => return not_run(error).map(over),
    };
    if let Some(size) = request.terminal {
        // For engines that do not accept a size at creation. A command that ended already has no terminal any more.
        let _ = resize(client, &exec, size).await;
    }
    let (read, write) = tokio::io::split(stream);
    let broken = {
        let client = client.clone();
        move |error: io::Error| gone(client.endpoint(), format!("the output was interrupted: {error}"))
    };
    let output = if terminal {
        ReaderStream::with_capacity(read, CHUNK).map_ok(|content| (ExecStream::Stdout, content)).map_err(broken).boxed()
    } else {
        FramedRead::with_capacity(read, Frames, CHUNK).map_err(broken).boxed()
    };
    // The engine's message comes first, instead of the command's output.
    let first = Arc::new(OnceLock::new());
    let first_seen = first.clone();
    let output = output.map_ok(move |(stream, content)| match first_seen.set(content.clone()) {
        Ok(()) if content.starts_with(REFUSAL) => (ExecStream::Stderr, content),
        _ => (stream, content),
    });
    let (resizer, resized) = (client.clone(), exec.clone());
    let (asker, asked) = (client.clone(), exec);
    Ok(ExecSession {
        input: Box::pin(write),
        output: output.boxed(),
        resize: Arc::new(move |size| {
            let (client, exec) = (resizer.clone(), resized.clone());
            async move { resize(&client, &exec, size).await }.boxed()
        }),
        exit_code: async move {
            let code = exit_code(&asker, &asked).await?;
            Ok(first.get().and_then(|said| engine_refusal(code, said)).unwrap_or(code))
        }
        .boxed(),
    })
}

/// A session that ended before it began: the engine's reason, and the code.
fn over(refused: ExecOutput) -> ExecSession {
    let code = refused.code;
    ExecSession {
        input: Box::pin(tokio::io::sink()),
        output: stream::once(std::future::ready(Ok((ExecStream::Stderr, refused.stderr)))).boxed(),
        resize: Arc::new(|_| std::future::ready(Ok(())).boxed()),
        exit_code: std::future::ready(Ok(code)).boxed(),
    }
}

async fn resize(client: &Client, exec: &str, size: TerminalSize) -> Result<(), EngineError> {
    let options = ResizeExecOptionsBuilder::default().w(i32::from(size.columns)).h(i32::from(size.rows)).build();
    client.docker.resize_exec(exec, options).await.map_err(client.explain("resize a terminal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_run_is_distinguished_from_one_that_fails() {
        let missing = b"OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown\r\n";
        assert_eq!(engine_refusal(126, missing), Some(127));
        assert_eq!(engine_refusal(126, b"OCI runtime exec failed: exec failed: permission denied"), Some(126));
        assert_eq!(engine_refusal(126, b"my own words"), None);
        assert_eq!(engine_refusal(1, missing), None);
    }
}
