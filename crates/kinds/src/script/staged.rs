//! Scripts that continue in the container without the daemon, because everything that they need is there. Called by the kinds that stage scripts.

use std::time::Duration;

use devenv_engine::ExecRequest;

use super::{ScriptContext, ScriptError};

/// The name of such a script in the container's list of processes.
pub(crate) const NAME: &str = "devenv-staged-script";

/// Whether any staged script, of whatever run, still runs in the container.
pub(crate) async fn is_alive(cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
    let command = "grep -l -a 'devenv-staged-[s]cript' /proc/[0-9]*/cmdline 2>/dev/null | grep -q .";
    let request = ExecRequest {
        command: vec!["sh".into(), "-c".into(), command.into()],
        deadline: Some(Duration::from_secs(10)),
        ..ExecRequest::default()
    };
    let output = cx.engine.exec(cx.container, request).await.map_err(|error| ScriptError::of("ledger", error.to_string()))?;
    Ok(output.code == 0)
}
