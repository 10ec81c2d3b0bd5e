//! Topics and consumer groups.
//!
//! Over one short connection with our own requests, as in the probe: librdkafka's clients take longer to start and to stop
//! than all of this takes, and their threads would outlive a cancelled start.

use std::time::Duration;

use async_trait::async_trait;
use devenv_secrets::Vault;
use devenv_spec::OfKind;
use tokio::{net::TcpStream, time::sleep};

use super::{
    KafkaKind,
    login::Login,
    spec::{KafkaProvision, TopicSpec},
    wire::{Connection, NewTopic, TOPIC_ALREADY_EXISTS, Topic, WireError},
};
use crate::{
    capability::Provisions,
    provision::{Change, ChangeKind, ProvisionContext, ProvisionError},
};

const NO_SUCH_TOPIC: i16 = 3;
const AGAIN: Duration = Duration::from_millis(10);

#[async_trait]
impl Provisions for KafkaKind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        apply(&wanted.decode()?, &cx.vault).await
    }
}

async fn apply(wanted: &KafkaProvision, vault: &Vault) -> Result<Vec<Change>, ProvisionError> {
    let stream =
        TcpStream::connect(("127.0.0.1", wanted.port)).await.map_err(|error| ProvisionError::Unreachable { reason: error.to_string() })?;
    stream.set_nodelay(true).map_err(|error| ProvisionError::Unreachable { reason: error.to_string() })?;
    let login = Login::of(wanted.login.as_ref(), vault)?;
    let mut broker = Connection::open(stream, login.as_ref()).await.map_err(|error| refused("log in", &error))?;
    let mut changes = users(&mut broker, wanted, vault).await?;
    changes.extend(topics(&mut broker, &wanted.topics).await?);
    changes.extend(groups(&mut broker, wanted).await?);
    Ok(changes)
}

/// Their passwords are set each time: a broker does not say which one it has.
async fn users(broker: &mut Connection, wanted: &KafkaProvision, vault: &Vault) -> Result<Vec<Change>, ProvisionError> {
    let mut users = Vec::new();
    for user in wanted.login.iter().chain(&wanted.users) {
        users.extend(Login::of(Some(user), vault)?);
    }
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = users.iter().map(|user| user.user.as_str()).collect();
    let known = broker.scram_users(&names).await.map_err(|error| refused("read the users", &error))?;
    broker.set_scram_users(&users).await.map_err(|error| refused("set the passwords of the users", &error))?;
    let made = wanted.users.iter().filter(|user| !known.contains(&user.user));
    Ok(made.map(|user| Change::made(format!("user `{}` created", user.user))).collect())
}

async fn topics(broker: &mut Connection, wanted: &[TopicSpec]) -> Result<Vec<Change>, ProvisionError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // All topics, not ours by name: a request for a topic by name may create it, with the broker's own defaults.
    let found = metadata(broker).await?;
    let mut changes = Vec::new();
    let missing: Vec<&TopicSpec> = wanted.iter().filter(|topic| !found.iter().any(|found| found.name == topic.name)).collect();
    changes.extend(create(broker, &missing).await?);
    let mut present = Vec::new();
    for topic in wanted {
        if let Some(found) = found.iter().find(|found| found.name == topic.name) {
            changes.extend(resize(broker, topic, found).await?);
            present.push(topic);
        }
    }
    changes.extend(set(broker, &present).await?);
    if changes.iter().any(|change| change.kind == ChangeKind::Made) {
        wait_for_leaders(broker, wanted).await?;
    }
    Ok(changes)
}

async fn create(broker: &mut Connection, missing: &[&TopicSpec]) -> Result<Vec<Change>, ProvisionError> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| NewTopic {
            name: &topic.name,
            partitions: topic.partitions,
            settings: topic.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        })
        .collect();
    let outcomes = broker.create_topics(&new).await.map_err(|error| refused("create the topics", &error))?;
    let mut changes = Vec::new();
    for outcome in outcomes {
        // Another client created it first; the next start checks its partitions.
        if outcome.code == TOPIC_ALREADY_EXISTS {
            continue;
        }
        outcome.check("create the topic").map_err(|error| ProvisionError::refused("provision the topics", error))?;
        let partitions = missing.iter().find(|topic| topic.name == outcome.name).map_or(0, |topic| topic.partitions);
        changes.push(Change::made(format!("topic `{}` created, partitions: {partitions}", outcome.name)));
    }
    Ok(changes)
}

async fn resize(broker: &mut Connection, wanted: &TopicSpec, found: &Topic) -> Result<Option<Change>, ProvisionError> {
    let (name, has) = (&wanted.name, found.leaders.len() as u32);
    if has == wanted.partitions {
        return Ok(None);
    }
    if has > wanted.partitions {
        return Ok(Some(Change::drift(format!(
            "topic `{name}` has {has} partitions, but the profile says {}: Kafka cannot reduce the number",
            wanted.partitions
        ))));
    }
    let outcomes = broker.grow(name, wanted.partitions).await.map_err(|error| refused("add partitions to a topic", &error))?;
    for outcome in outcomes {
        outcome.check("add partitions to the topic").map_err(|error| ProvisionError::refused("provision the topics", error))?;
    }
    Ok(Some(Change::made(format!("topic `{name}`: partitions increased from {has} to {}", wanted.partitions))))
}

async fn set(broker: &mut Connection, wanted: &[&TopicSpec]) -> Result<Vec<Change>, ProvisionError> {
    let asked: Vec<(&str, Vec<&str>)> = wanted
        .iter()
        .filter(|topic| !topic.settings.is_empty())
        .map(|topic| (topic.name.as_str(), topic.settings.keys().map(String::as_str).collect()))
        .collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let found = broker.topic_settings(&asked).await.map_err(|error| refused("read the settings of the topics", &error))?;
    let mut changes = Vec::new();
    for topic in wanted {
        let name = &topic.name;
        let found = found.get(name).map(Vec::as_slice).unwrap_or_default();
        let differs: Vec<(&str, &str)> = topic
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, value)| !found.iter().any(|(found, has)| found == name && is_same(has, value)))
            .collect();
        if differs.is_empty() {
            continue;
        }
        let action = format!("set the settings of the topic `{name}`");
        broker.alter_topic(name, &differs).await.map_err(|error| refused(&action, &error))?;
        let changed = differs.into_iter();
        changes.extend(changed.map(|(key, value)| Change::made(format!("`{key}` of the topic `{name}` set to `{value}`"))));
    }
    Ok(changes)
}

/// A value may be written in several ways: `0.50` is `0.5`, and a list may contain spaces.
fn is_same(found: &str, wanted: &str) -> bool {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let list = |text: &str| text.split(',').map(|item| item.trim().to_lowercase()).collect::<Vec<_>>();
    match (number(found), number(wanted)) {
        // Large integers are compared by their digits.
        (Some(a), Some(b)) if found.contains('.') || wanted.contains('.') => (a - b).abs() < f64::EPSILON,
        _ => list(found) == list(wanted),
    }
}

/// The broker that was asked gets the controller's decisions a little later.
async fn wait_for_leaders(broker: &mut Connection, wanted: &[TopicSpec]) -> Result<(), ProvisionError> {
    loop {
        let found = metadata(broker).await?;
        let led = |topic: &TopicSpec| {
            found.iter().any(|found| {
                found.name == topic.name
                    && found.code == 0
                    && found.leaders.len() >= topic.partitions as usize
                    && found.leaders.iter().all(|leader| *leader >= 0)
            })
        };
        if wanted.iter().all(led) {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
}

/// Asks again until there is an answer. Not a function, because its future would have to borrow the connection each time.
macro_rules! until_settled {
    ($question:expr, $action:expr) => {
        loop {
            if let Some(answer) = settled($question.await, $action).await {
                break answer;
            }
        }
    };
}

/// A group exists while it has offsets or members, so it gets offsets: the start of every declared topic.
async fn groups(broker: &mut Connection, wanted: &KafkaProvision) -> Result<Vec<Change>, ProvisionError> {
    let mut changes = Vec::new();
    let starts: Vec<(String, u32)> = wanted.topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
    for group in &wanted.consumer_groups {
        if starts.is_empty() {
            changes.push(Change::drift(format!("consumer group `{group}` needs a declared topic for its offsets")));
            continue;
        }
        let action = format!("create the consumer group `{group}`");
        until_settled!(broker.find_coordinator(group), &action)?;
        if !until_settled!(broker.committed(group), &action)?.is_empty() {
            continue;
        }
        match until_settled!(broker.commit_start(group, &starts), &action) {
            Ok(()) => changes.push(Change::made(format!("consumer group `{group}` created at the start of its topics"))),
            // A consumer has joined in the meantime: the group exists, which is sufficient.
            Err(ProvisionError::Refused { reason, .. }) if reason.contains("UNKNOWN_MEMBER_ID") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changes)
}

/// `None` if the coordinator is still being elected; the limit is that of the whole provisioning.
async fn settled<T>(answer: Result<T, WireError>, action: &str) -> Option<Result<T, ProvisionError>> {
    match answer {
        Err(error) if error.is_coming() || matches!(error, WireError::Refused { code: NO_SUCH_TOPIC, .. }) => {
            sleep(AGAIN).await;
            None
        }
        answer => Some(answer.map_err(|error| refused(action, &error))),
    }
}

async fn metadata(broker: &mut Connection) -> Result<Vec<Topic>, ProvisionError> {
    Ok(broker.metadata(None).await.map_err(|error| refused("read the topics", &error))?.topics)
}

fn refused(action: &str, error: &WireError) -> ProvisionError {
    match error {
        WireError::Io(error) => ProvisionError::Unreachable { reason: error.to_string() },
        WireError::Malformed | WireError::Refused { .. } => ProvisionError::refused(action, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_a_value_are_one_value() {
        assert!(is_same("0.5", "0.50"));
        assert!(is_same("compact,delete", "compact, delete"));
        assert!(!is_same("3600000", "3600001"));
        assert!(!is_same("9007199254740992", "9007199254740993"));
        assert!(!is_same("compact", "delete"));
    }
}
