//! A kind of service without a server: its database is a file in its volume, which a shell in its container reads and writes.
//! It stands in for the kind `container`, so that backups, restores, imports and exports can be tested on an engine in memory.
//!
//! `db` holds a database, which is dumped and restored beside the one in use, as does every service whose name ends with it;
//! the files of `cache` are copied; `api` has none.

use std::{
    io::Cursor,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_engine::{ExecInput, ExecRequest};
use devenv_kinds::{
    ServiceKind,
    backup::BackupError,
    capability::{
        Arrived, Backups, Dumped, DumpedFile, FileField, RemoteSource, Restores, Rules, ServerSite, Staged, StagedRestore, Transfers, Way,
    },
    container::ContainerKind,
};
use devenv_spec::ServiceSpec;

pub(super) struct Store;

/// The name of the only database, and of its file.
const DATABASE: &str = "data";

const READ: &str = "cat /rows/data";
const WRITTEN: &str = "test -e /rows/data";
const PREPARE: &str = "cd /rows && rm -f staged former absent";
/// Tests can replace `sync`, and so delay the rest.
const STAGE: &str = "sync staged && cat > /rows/staged && cat /rows/staged";
const SWAP: &str = "cd /rows && if [ -e data ]; then mv data former; else : > absent; fi && mv staged data";
const REVERT: &str = "cd /rows && if [ -e former ]; then mv former data; elif [ -e absent ]; then rm -f data absent; fi; rm -f staged";
const CONCLUDE: &str = "rm -f /rows/former /rows/absent";

impl ServiceKind for Store {
    fn name(&self) -> &'static str {
        ContainerKind.name()
    }

    fn docs(&self) -> &'static str {
        ""
    }

    fn rules(&self) -> &dyn Rules {
        ContainerKind.rules()
    }

    fn files(&self) -> &'static [FileField] {
        ContainerKind.files()
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(self)
    }

    fn transfers(&self) -> Option<&dyn Transfers> {
        Some(self)
    }
}

#[async_trait]
impl Backups for Store {
    fn way(&self, service: &ServiceSpec) -> Way {
        match service.name.as_str() {
            name if name.ends_with("db") => Way::Dump,
            "cache" => Way::Files,
            _ => Way::Skipped("it keeps no data"),
        }
    }

    async fn dump(&self, site: &ServerSite<'_>, directory: &Path) -> Result<Dumped, BackupError> {
        let name = format!("{}.dump", site.service.name);
        let contents = self.export(site, Some(DATABASE), &directory.join(&name)).await?;
        Ok(Dumped { files: vec![DumpedFile { name, database: Some(DATABASE.to_owned()) }], contents })
    }

    fn restores(&self) -> Option<Restores<'_>> {
        Some(Restores::Staged(self))
    }
}

#[async_trait]
impl StagedRestore for Store {
    async fn prepare(&self, site: &ServerSite<'_>, _: &[String]) -> Result<(), BackupError> {
        run(site, PREPARE, Vec::new()).await.map(drop)
    }

    async fn stage(&self, site: &ServerSite<'_>, part: &Staged) -> Result<Arrived, BackupError> {
        let dump = std::fs::read(&part.file).map_err(|source| BackupError::File { action: "read", path: part.file.clone(), source })?;
        let contents = contents(&run(site, STAGE, dump).await?);
        Ok(Arrived { promised: contents.clone(), contents })
    }

    async fn interrupt(&self, _: &ServerSite<'_>, _: &[String]) -> bool {
        // Its command ends by itself.
        true
    }

    async fn swap(&self, site: &ServerSite<'_>, _: &[String]) -> Result<(), BackupError> {
        run(site, SWAP, Vec::new()).await.map(drop)
    }

    async fn revert(&self, site: &ServerSite<'_>, _: &[String]) -> Result<(), BackupError> {
        run(site, REVERT, Vec::new()).await.map(drop)
    }

    async fn conclude(&self, site: &ServerSite<'_>, _: &[String]) -> Result<(), BackupError> {
        run(site, CONCLUDE, Vec::new()).await.map(drop)
    }
}

#[async_trait]
impl Transfers for Store {
    fn databases(&self, _: &ServiceSpec) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn ending(&self) -> &'static str {
        "dump"
    }

    async fn export(&self, site: &ServerSite<'_>, _: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError> {
        let data = run(site, READ, Vec::new()).await?;
        std::fs::write(file, &data).map_err(|source| BackupError::File { action: "write", path: file.to_owned(), source })?;
        // A call at which a test can stop.
        run(site, WRITTEN, Vec::new()).await?;
        Ok(contents(&data))
    }

    fn remote(&self) -> Result<&dyn RemoteSource, &'static str> {
        Err("write it into a file")
    }
}

fn contents(data: &[u8]) -> Vec<Content> {
    let checksum = Some(String::from_utf8_lossy(data).into_owned());
    vec![Content { name: DATABASE.to_owned(), rows: data.len() as u64, checksum }]
}

async fn run(site: &ServerSite<'_>, script: &str, input: Vec<u8>) -> Result<Vec<u8>, BackupError> {
    let input: ExecInput = Arc::new(Mutex::new(Some(Box::pin(Cursor::new(input)))));
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let output = site.engine.exec(site.container, ExecRequest { command, input: Some(input), ..ExecRequest::default() }).await?;
    if output.code == 0 {
        return Ok(output.stdout.to_vec());
    }
    Err(BackupError::Refused { action: format!("run `{script}`"), reason: String::from_utf8_lossy(&output.stderr).into_owned() })
}
