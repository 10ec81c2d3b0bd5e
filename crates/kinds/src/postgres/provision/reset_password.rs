//! Sets the superuser's password over the socket in the server's own container: for data that was made with another one.

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{postgres::spec::PostgresProvision, provision::ProvisionError};
use devenv_engine::{Engine, ExecRequest};
use devenv_secrets::Vault;

/// Sets the vault's password for the superuser. Only its verifier reaches the server and its log.
pub async fn reset_superuser_password(
    engine: &dyn Engine,
    container: &str,
    wanted: &PostgresProvision,
    vault: &Vault,
) -> Result<(), ProvisionError> {
    let password = vault.reveal(&wanted.password)?;
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let script = format!("SET log_statement = 'none';\nSET log_min_duration_statement = -1;\nALTER ROLE postgres PASSWORD '{verifier}';\n");
    let request = ExecRequest {
        command: [
            "psql",
            "-X",
            "-q",
            "--no-password",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "/var/run/postgresql",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-f",
            "-",
        ]
        .map(str::to_owned)
        .to_vec(),
        user: Some("postgres".to_owned()),
        input: Some(Arc::new(Mutex::new(Some(Box::pin(Cursor::new(script.into_bytes())))))),
        deadline: Some(Duration::from_secs(30)),
        ..ExecRequest::default()
    };
    let refused = |reason: String| ProvisionError::refused("set the superuser's password", reason);
    let output = engine.exec(container, request).await.map_err(|error| refused(error.to_string()))?;
    if output.code == 0 { Ok(()) } else { Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
