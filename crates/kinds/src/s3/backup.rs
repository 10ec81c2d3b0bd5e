//! A store keeps its objects as files, so its backup is a copy of them.

use async_trait::async_trait;
use devenv_spec::ServiceSpec;

use super::S3Kind;
use crate::capability::{Backups, Way};

#[async_trait]
impl Backups for S3Kind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Files
    }
}
