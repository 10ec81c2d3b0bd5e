//! Waits until every quorum queue has a leader that has applied its log: before that, a queue counts no messages and answers
//! nothing, although the broker takes connections. Called by provisioning, at each start.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{
    fields::encoded,
    management::{Management, ManagementError},
};

/// For all queues. Elections take milliseconds; the log of a large queue is read for seconds.
const LIMIT: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(50);
/// For a broker that says nothing of a queue: one that has just started does not know its members yet, an old one has no such page.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How many queues are asked at once.
const AT_ONCE: usize = 8;

#[derive(Deserialize)]
struct Queue {
    name: String,
    vhost: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What a member of a queue's Raft cluster says of itself. A broker that names these in other words is not waited for.
#[derive(Deserialize)]
struct Member {
    #[serde(rename = "Raft State")]
    state: Option<String>,
    #[serde(rename = "Last Log Index")]
    last: Option<i64>,
    #[serde(rename = "Last Applied")]
    applied: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum QueuesError {
    #[error(transparent)]
    Management(#[from] ManagementError),
    #[error("the quorum queue `{queue}` of the virtual host `{vhost}` has no leader after {LIMIT:?}")]
    NoLeader { vhost: String, queue: String },
}

/// Returns when all quorum queues of all virtual hosts answer.
pub(super) async fn answer(management: &Management) -> Result<(), QueuesError> {
    // Without figures: those are not there for a while after a start, and may be switched off.
    let queues: Vec<Queue> = management.get("queues?disable_stats=true").await?;
    let quorum = queues.into_iter().filter(|queue| queue.kind.ends_with("quorum"));
    let mut answers = stream::iter(quorum.map(|queue| leads(management, queue))).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// Returns when the queue's leader has applied what was in its log when it was elected.
async fn leads(management: &Management, queue: Queue) -> Result<(), QueuesError> {
    let path = format!("queues/quorum/{}/{}/status", encoded(&queue.vhost), encoded(&queue.name));
    let queue_path = format!("queues/{}/{}?disable_stats=true", encoded(&queue.vhost), encoded(&queue.name));
    let led = async {
        let (mut target, started) = (None, Instant::now());
        loop {
            let members = management.find::<Vec<Member>>(&path).await?.unwrap_or_default();
            if members.is_empty() {
                if started.elapsed() > UNKNOWN || management.find::<Queue>(&queue_path).await?.is_none() {
                    return Ok(());
                }
            } else if is_ready(&members, &mut target) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    };
    timeout(LIMIT, led).await.unwrap_or(Err(QueuesError::NoLeader { vhost: queue.vhost, queue: queue.name }))
}

/// `target` is the end of the log when there was a leader for the first time: clients may add to it meanwhile.
fn is_ready(members: &[Member], target: &mut Option<i64>) -> bool {
    if members.iter().all(|member| member.state.is_none()) {
        return true;
    }
    let Some(leader) = members.iter().find(|member| member.state.as_deref() == Some("leader")) else { return false };
    let (Some(last), Some(applied)) = (leader.last, leader.applied) else { return true };
    applied >= *target.get_or_insert(last)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ready(status: Value, target: &mut Option<i64>) -> bool {
        is_ready(&serde_json::from_value::<Vec<Member>>(status).unwrap(), target)
    }

    #[test]
    fn a_queue_is_ready_when_its_leader_has_applied_what_was_in_its_log() {
        let mut target = None;
        let member =
            |state: &str, last: i64, applied: i64| json!([{ "Raft State": state, "Last Log Index": last, "Last Applied": applied }]);
        assert!(!ready(member("follower", 100, 100), &mut target), "nobody answers");
        assert!(!ready(member("leader", 100, 20), &mut target));
        assert!(ready(member("leader", 900, 100), &mut target), "what clients add is not waited for");
        assert!(ready(json!([{ "Node Name": "rabbit@localhost" }]), &mut None), "a broker that says it in other words");
    }
}
