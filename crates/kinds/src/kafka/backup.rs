//! Why Kafka has no backup.

use async_trait::async_trait;
use devenv_spec::ServiceSpec;

use super::KafkaKind;
use crate::capability::{Backups, Way};

#[async_trait]
impl Backups for KafkaKind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Skipped("Kafka's logs cannot be restored by another version; use `devenv snapshot`")
    }
}
