//! A command of the user's, run repeatedly with the environment's variables. It stores nothing.

use std::process::Stdio;

use async_trait::async_trait;

use devenv_kinds::capability::{Client, Observed, Reply, Variables, Work, WorkError};

pub(crate) struct Commands {
    pub(super) command: Vec<String>,
    pub(super) variables: Variables,
}

struct Runner {
    command: Vec<String>,
    variables: Variables,
}

/// One run of the command; killed if it is not waited for any more.
pub(crate) fn prepared(command: &[String], variables: &Variables) -> Option<tokio::process::Command> {
    let (program, arguments) = command.split_first()?;
    let mut prepared = tokio::process::Command::new(program);
    prepared.args(arguments).envs(&variables.0).stdin(Stdio::null()).kill_on_drop(true);
    Some(prepared)
}

#[async_trait]
impl Work for Commands {
    async fn set_up(&self) -> Result<(), WorkError> {
        Ok(())
    }

    fn client(&self, _: u32) -> Box<dyn Client> {
        Box::new(Runner { command: self.command.clone(), variables: self.variables.clone() })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        Ok(None)
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        Ok(())
    }
}

#[async_trait]
impl Client for Runner {
    async fn connect(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(mut command) = prepared(&self.command, &self.variables) else { return Reply::Refused("no command".to_owned()) };
        command.env("DEVENV_CHAOS_SEQUENCE", sequence.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status().await {
            Ok(status) if status.success() => Reply::Acknowledged,
            Ok(status) => Reply::Refused(format!("exited with {status}")),
            Err(error) => Reply::Refused(format!("cannot be run: {error}")),
        }
    }
}
