//! A kind of service without a server, whose freshly made data is kept as a golden volume. It stands in for the kind `mariadb`,
//! since that declares one volume and something to be provisioned.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use devenv_kinds::{
    ServiceKind,
    capability::{
        Change, Golden, GoldenServer, LogRange, ProbeContext, ProbeFailure, ProbeSuccess, Probes, ProvisionContext, ProvisionError,
        Provisions,
    },
};
use devenv_spec::{OfKind, ServiceSpec};

pub(super) struct Keeper;

/// The image that the kind runs.
pub(super) const IMAGE: &str = "mariadb:11.8";

/// The directory of the data in its volume.
pub(crate) const DIRECTORY: &str = "kept";

impl ServiceKind for Keeper {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn docs(&self) -> &'static str {
        ""
    }

    fn probes(&self) -> Option<&dyn Probes> {
        Some(self)
    }

    fn provisions(&self) -> Option<&dyn Provisions> {
        Some(self)
    }

    fn golden(&self) -> Option<&dyn Golden> {
        Some(self)
    }
}

#[async_trait]
impl Probes for Keeper {
    async fn ask(&self, _: &OfKind, _: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        Ok(ProbeSuccess { evidence: "it answers".to_owned(), life: None })
    }

    fn port(&self, _: &OfKind) -> Option<u16> {
        None
    }

    fn greeting(&self, _: Option<usize>) -> Option<Vec<u8>> {
        None
    }
}

#[async_trait]
impl Provisions for Keeper {
    async fn apply(&self, _: &OfKind, _: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        Ok(Vec::new())
    }
}

impl Golden for Keeper {
    fn directory(&self) -> &'static str {
        DIRECTORY
    }

    fn left_behind(&self) -> &'static [&'static str] {
        &[]
    }

    fn key(&self, _: &OfKind) -> Option<String> {
        Some("always the same".to_owned())
    }

    fn check(&self, _: &ServiceSpec, data: &Path) -> Option<Result<(), (String, String)>> {
        data.exists().then_some(Ok(()))
    }

    fn served(&self, data: &Path) -> bool {
        data.exists()
    }

    fn server(&self, provision: &OfKind, _: ProvisionContext) -> Option<Box<dyn GoldenServer>> {
        Some(Box::new(Server { declared: provision.clone(), was_asked: AtomicBool::new(false) }))
    }
}

struct Server {
    declared: OfKind,
    was_asked: AtomicBool,
}

struct Whole;

impl LogRange for Whole {
    fn is_needless(&self, _: &Path) -> bool {
        false
    }
}

#[async_trait]
impl GoldenServer for Server {
    async fn checkpoint(&self) -> Result<(Box<dyn LogRange>, String), String> {
        Ok((Box::new(Whole), String::new()))
    }

    async fn position(&self) -> Result<String, String> {
        Ok(String::new())
    }

    /// Nobody writes to the server that is asked first; to every other one somebody does all the time, so that a copy of it
    /// fails.
    async fn next_writer(&self) -> Result<String, String> {
        static FIRST: OnceLock<OfKind> = OnceLock::new();
        if *FIRST.get_or_init(|| self.declared.clone()) == self.declared {
            FIRST_IS_ASKED.store(true, Ordering::SeqCst);
            once(&FIRST_GOES_ON).await;
            return Ok("1".to_owned());
        }
        if self.was_asked.swap(true, Ordering::SeqCst) {
            once(&OTHERS_FAIL).await;
        }
        Ok(rand::random::<u64>().to_string())
    }
}

/// The first server is asked whether it can be copied, and answers when [`FIRST_GOES_ON`].
pub(crate) static FIRST_IS_ASKED: AtomicBool = AtomicBool::new(false);
pub(crate) static FIRST_GOES_ON: AtomicBool = AtomicBool::new(false);
/// The copies of all others wait for this before they fail.
pub(crate) static OTHERS_FAIL: AtomicBool = AtomicBool::new(false);

async fn once(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
