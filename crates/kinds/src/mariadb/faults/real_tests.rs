//! The faults on a real server: an application sees each, and it is gone after the undo.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use devenv_faults::{FaultKind, FaultSpec};
use devenv_secrets::Vault;
use devenv_spec::{OfKind, ServiceSpec};
use tokio_util::task::AbortOnDropHandle;

use super::{Action, MariadbKind, NAME};
use crate::{
    capability::{Effect, FaultSite, Faults},
    mariadb::{
        real_tests::Server,
        session::{Session, code},
    },
};

struct Site<'a> {
    service: &'a ServiceSpec,
    vault: &'a Vault,
    undo: Vec<OfKind>,
    held: Vec<AbortOnDropHandle<()>>,
}

#[async_trait]
impl FaultSite for Site<'_> {
    fn service(&self) -> &ServiceSpec {
        self.service
    }

    fn vault(&self) -> &Vault {
        self.vault
    }

    fn authority(&self) -> &Path {
        Path::new("/nonexistent")
    }

    fn time(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn will_undo(&mut self, step: OfKind) -> Result<(), String> {
        self.undo.push(step);
        Ok(())
    }

    fn hold(&mut self, task: AbortOnDropHandle<()>) {
        self.held.push(task);
    }

    fn volume(&self) -> Option<String> {
        None
    }

    async fn volume_mode(&mut self, _: &str, _: Option<&str>) -> Result<String, String> {
        Err("no volume".to_owned())
    }
}

impl Site<'_> {
    fn of(server: &Server) -> Site<'_> {
        Site { service: &server.service, vault: &server.vault, undo: Vec::new(), held: Vec::new() }
    }

    async fn inject(&mut self, action: Action) -> Effect {
        let action = OfKind::new(NAME, &action);
        MariadbKind.inject(&action, self).await.unwrap()
    }

    async fn heal(&mut self) {
        self.held.clear();
        for step in std::mem::take(&mut self.undo) {
            MariadbKind.undo(&step, self).await.unwrap();
            MariadbKind.undo(&step, self).await.unwrap();
        }
    }
}

async fn app(server: &Server) -> Session {
    server.session("app", "app").await.unwrap()
}

/// Waits until a server has noticed what its clients did.
async fn until_works(server: &Server, statement: &str) {
    for _ in 0..1000 {
        if let Ok(mut session) = server.session("app", "app").await
            && session.run(statement).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("`{statement}` does not work after the fault");
}

#[tokio::test]
async fn each_fault_is_seen_by_the_application_and_ends_when_it_is_undone() {
    let server = Server::start().await;
    let mut site = Site::of(&server);
    let mut open = app(&server).await;
    open.run("create table t (id int primary key) engine = InnoDB").await.unwrap();

    let effect = site.inject(Action::Terminate { database: None, every: None }).await;
    assert!(effect.observed && effect.what.starts_with("terminated 1 "), "{effect:?}");
    assert!(open.run("do 0").await.is_err());
    let effect = site.inject(Action::Terminate { database: Some("app".to_owned()), every: Some(Duration::from_millis(100)) }).await;
    assert!(effect.observed, "{effect:?}");
    // This one may be terminated at any moment.
    let again = async {
        let mut open = server.session("app", "app").await;
        while let Ok(session) = &mut open
            && session.run("do 0").await.is_ok()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), again).await.expect("it is done again and again");
    site.heal().await;

    let effect = site.inject(Action::Exhaust { leave: 0 }).await;
    assert!(effect.observed && effect.what.contains("Too many connections"), "{effect:?}");
    assert_eq!(server.session("app", "app").await.err().as_ref().and_then(code), Some(1040));
    // For a moment, the session that was just refused still holds the superuser's reserved connection.
    let superuser = async {
        while server.session("root", "app").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), superuser).await.expect("devenv itself still gets in");
    site.heal().await;
    until_works(&server, "do 0").await;

    let effect = site.inject(Action::Lock { database: None, table: None }).await;
    assert!(effect.observed, "{effect:?}");
    let blocked = app(&server).await.run("set statement lock_wait_timeout = 0 for insert into t values (1)").await;
    assert_eq!(blocked.err().as_ref().and_then(code), Some(1205));
    site.heal().await;
    until_works(&server, "set statement lock_wait_timeout = 1 for insert into t values (1)").await;

    let effect = site.inject(Action::ReadOnly).await;
    assert!(effect.observed && site.undo.len() == 1, "{effect:?}");
    assert_eq!(app(&server).await.run("insert into t values (2)").await.err().as_ref().and_then(code), Some(1290));
    let mut twice = Site::of(&server);
    let action = OfKind::new(NAME, &Action::ReadOnly);
    assert_eq!(MariadbKind.inject(&action, &mut twice).await.unwrap_err(), "the server is read-only already");
    assert!(twice.undo.is_empty());
    site.heal().await;
    until_works(&server, "insert into t values (2)").await;
}

#[test]
fn faults_are_parsed_for_servers_of_this_kind_only() {
    for kind in MariadbKind.kinds() {
        assert!(kind.name().starts_with("mariadb-") && FaultKind::about(*kind).ends_with('.'), "{}", kind.name());
    }
    let of = |fault: &str| FaultSpec::parse("f", crate::faults::find(fault).unwrap(), "store".parse().unwrap(), &[].into(), None, 1);
    assert!(of("mariadb-exhaust").is_ok() && of("mariadb-lock").is_ok());
}
