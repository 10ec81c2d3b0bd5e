//! A store keeps its objects as files, so its backup is a copy of them.

use std::path::Path;

use async_trait::async_trait;
use devenv_spec::ServiceSpec;

use super::S3Kind;
use crate::{
    backup::BackupError,
    capability::{Backups, Dumped, Restores, ServerSite, Way},
};

#[async_trait]
impl Backups for S3Kind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Files
    }

    async fn dump(&self, _: &ServerSite<'_>, _: &Path) -> Result<Dumped, BackupError> {
        Ok(Dumped::default())
    }

    fn restores(&self) -> Option<Restores<'_>> {
        None
    }
}
