//! What the tests against real servers share: containers that end with their test, and an engine that can only `exec`.

use std::{
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWriteExt;

use crate::{
    engine::{
        ContainerCreate, Engine, EngineError, EngineEvent, EngineInfo, ExecOutput, ExecRequest, HelperRun, LogChunk, NetworkCreate, ObservedContainer, ObservedNetwork,
        ObservedVolume, OwnerId, PullProgress, UploadFile, VolumeCreate,
    },
    spec::ImageBuild,
};

/// A container of a test, removed when the test ends.
pub(crate) struct Server {
    pub(crate) id: String,
    pub(crate) port: u16,
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    pub(crate) fn start(port: u16, arguments: &[&str]) -> Self {
        let published = format!("127.0.0.1::{port}");
        let mut all = vec!["run", "-d", "--stop-signal", "SIGINT", "--label", "devenv-test=data", "-p", &published];
        all.extend(arguments);
        let id = docker(&all);
        let address = docker(&["port", &id, &port.to_string()]);
        Self { id, port: address.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap() }
    }

    /// PostgreSQL with the superuser's password, which trusts its own container as the image's entrypoint does.
    pub(crate) fn postgres(password: &str) -> Self {
        let script = format!(
            "set -e; d=/var/lib/postgresql/data; mkdir -p $d; chown postgres $d; echo {password} > /tmp/pw; chmod 644 /tmp/pw
            [ -e $d/PG_VERSION ] || {{ setpriv --reuid=postgres --regid=postgres --clear-groups initdb -D $d --no-sync --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/pw > /dev/null
            echo 'host all all all scram-sha-256' >> $d/pg_hba.conf; }}
            exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D $d -c listen_addresses='*' -c shared_preload_libraries=pg_stat_statements"
        );
        let server = Self::start(5432, &["--entrypoint", "sh", "pgvector/pgvector:pg17", "-c", &script]);
        server.until(|| server.try_psql("postgres", "select 1").is_ok());
        server
    }

    pub(crate) fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new("docker").args(["exec", &self.id, "psql", "-h", "/var/run/postgresql", "-U", "postgres", "-Atqc", sql, database]).output().unwrap();
        if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap()
    }

    pub(crate) fn until(&self, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !ready() {
            assert!(Instant::now() < deadline, "not ready: {}", docker(&["logs", "--tail", "20", &self.id]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        Command::new("docker").args(["rm", "-fv", &self.id]).stdout(Stdio::null()).status().ok();
    }
}

/// An engine that runs commands in containers by the command line of Docker, and nothing else.
pub(crate) struct DockerCli;

#[async_trait]
impl Engine for DockerCli {
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError> {
        let mut command = tokio::process::Command::new("docker");
        command.args(["exec", "-i"]);
        for (name, value) in &request.environment {
            command.args(["-e", name]).env(name, value);
        }
        if let Some(user) = &request.user {
            command.args(["-u", user]);
        }
        command.arg(id).args(&request.command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = request.input.and_then(|input| input.lock().unwrap().take());
        let feed = tokio::spawn(async move {
            if let Some(mut input) = input {
                tokio::io::copy(&mut input, &mut stdin).await.ok();
                stdin.shutdown().await.ok();
            }
        });
        let output = child.wait_with_output().await.unwrap();
        feed.abort();
        Ok(ExecOutput { code: output.status.code().unwrap_or(-1).into(), stdout: output.stdout.into(), stderr: output.stderr.into() })
    }

    async fn info(&self) -> Result<EngineInfo, EngineError> {
        unreachable!()
    }
    async fn containers(&self, _: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError> {
        unreachable!()
    }
    async fn networks(&self, _: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError> {
        unreachable!()
    }
    async fn volumes(&self, _: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError> {
        unreachable!()
    }
    async fn subnets(&self) -> Result<Vec<ipnet::IpNet>, EngineError> {
        unreachable!()
    }
    fn events(&self, _: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
        unreachable!()
    }
    async fn image(&self, _: &str) -> Result<Option<String>, EngineError> {
        unreachable!()
    }
    fn pull(&self, _: &str) -> BoxStream<'static, Result<PullProgress, EngineError>> {
        unreachable!()
    }
    fn build(&self, _: &ImageBuild) -> BoxStream<'static, Result<String, EngineError>> {
        unreachable!()
    }
    async fn create_network(&self, _: &NetworkCreate) -> Result<String, EngineError> {
        unreachable!()
    }
    async fn remove_network(&self, _: &str) -> Result<Vec<String>, EngineError> {
        unreachable!()
    }
    async fn create_volume(&self, _: &VolumeCreate) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn remove_volume(&self, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn create_container(&self, _: &ContainerCreate) -> Result<String, EngineError> {
        unreachable!()
    }
    async fn upload(&self, _: &str, _: &[UploadFile]) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn start(&self, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn stop(&self, _: &str, _: &str, _: Duration) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn kill(&self, _: &str, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn pause(&self, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn unpause(&self, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn remove_container(&self, _: &str) -> Result<(), EngineError> {
        unreachable!()
    }
    async fn inspect(&self, _: &str) -> Result<Option<ObservedContainer>, EngineError> {
        unreachable!()
    }
    fn logs(&self, _: &str, _: Option<&str>, _: bool) -> BoxStream<'static, Result<LogChunk, EngineError>> {
        unreachable!()
    }
    async fn run_helper(&self, _: &HelperRun) -> Result<ExecOutput, EngineError> {
        unreachable!()
    }
}
