//! Why Kafka has no backup.

use std::path::Path;

use async_trait::async_trait;
use devenv_spec::ServiceSpec;

use super::KafkaKind;
use crate::{
    backup::BackupError,
    capability::{Backups, Dumped, Restores, ServerSite, Way},
};

#[async_trait]
impl Backups for KafkaKind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Skipped("Kafka's logs cannot be restored by another version; use `devenv snapshot`")
    }

    async fn dump(&self, _: &ServerSite<'_>, _: &Path) -> Result<Dumped, BackupError> {
        Ok(Dumped::default())
    }

    fn restores(&self) -> Option<Restores<'_>> {
        None
    }
}
