//! Progress messages of long requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiError, Event, Status};

/// One line of the answer to `up` and other long requests: events as they happen, then one of the last two.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpMessage {
    Event(Event),
    /// Bytes pulled so far, or other progress that is no event.
    Progress {
        service: String,
        message: String,
    },
    Done(Status),
    Failed(ApiError),
}
