//! A real broker, started as the kind describes it.

use std::{fs, path::Path};

use devenv_api::LedgerState;
use devenv_profile::testing::given;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{
    RabbitmqKind,
    channel::{Channel, Confirmation},
    management::Management,
    spec::RabbitmqProvision,
};
use crate::{
    capability::{Backups, Leases, Reply, ServerSite, Variables, WorkloadSite, Workloads},
    probe::real_tests::{docker, free_port, ready, start_described, vault},
    provision::{ProvisionContext, apply as provision},
    script::{
        Checksums, Choice, ScriptContext,
        testing::{apply, engine},
    },
};

#[tokio::test]
async fn virtual_hosts_definitions_messages_and_leases_are_what_the_profile_says() {
    let (_secrets, vault) = vault();
    let (amqp, management) = (free_port(), free_port());
    let declared =
        json!({"rabbitmq": { "vhosts": { "app": {}, "a/b": { "user": "ann" } }, "definitions": ["d.json"], "seed": ["m.jsonl"] }});
    let given = given("queue", declared).with(|service| service.ports.extend([(5672, amqp), (15672, management)]));
    let service = given.spec().services["queue"].clone();
    let running = start_described(&service, &vault);
    ready(&service.probe, &vault).await;
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    assert_eq!(provision(&service.provision[0], &cx).await.unwrap().len(), 4);
    assert_eq!(provision(&service.provision[0], &cx).await.unwrap(), []);
    ready(service.proof.as_ref().unwrap(), &vault).await;

    let project = tempfile::tempdir().unwrap();
    let queue = json!({ "name": "jobs", "vhost": "app", "durable": true, "auto_delete": false, "arguments": {} });
    fs::write(project.path().join("d.json"), json!({ "queues": [queue] }).to_string()).unwrap();
    let message = json!({ "routing_key": "jobs", "body": { "n": 1 } });
    fs::write(project.path().join("m.jsonl"), format!("{message}\n{message}\n")).unwrap();
    let checksums = Checksums::default();
    let scripts = ScriptContext {
        engine: engine().await,
        container: &running.0,
        vault: &vault,
        project: project.path(),
        authority: None,
        checksums: &checksums,
        progress: &|_| {},
    };
    let set = service.scripts.as_ref().unwrap();
    for _ in 0..2 {
        let entries = apply(set, Choice::All, &scripts).await.unwrap();
        assert!(entries.iter().all(|entry| entry.state == LedgerState::Applied), "{entries:?}");
    }
    let declared = RabbitmqProvision::of(&service).unwrap();
    let api = Management::open(&declared.target, &vault).unwrap();
    let get = json!({ "count": 10, "ackmode": "ack_requeue_true", "encoding": "auto" });
    let found = api.post("queues/app/jobs/get", &get).await.unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
    assert_eq!(found[0]["payload"], r#"{"n":1}"#);

    let other = project.path().join("m.jsonl");
    fs::write(&other, format!("{message}\n{}\n", json!({ "routing_key": "nowhere", "body": "x" }))).unwrap();
    let mut renamed = set.clone();
    fs::rename(&other, project.path().join("n.jsonl")).unwrap();
    renamed.sources[1].paths = vec!["n.jsonl".to_owned()];
    let error = apply(&renamed, Choice::All, &scripts).await.unwrap_err();
    assert_eq!(error.to_string(), "n.jsonl:2: no queue receives it: nothing is bound to the default exchange for `nowhere`");

    let lessor = RabbitmqKind.lessor(&service, &cx).unwrap();
    let part = lessor.take("abc", None, "1").await.unwrap();
    let mut variables = IndexMap::from([("QUEUE_APP_URL".to_owned(), format!("amqp://app:s@127.0.0.1:{amqp}/app"))]);
    part.make_private(&mut variables);
    let (user, password) = (&variables["QUEUE_APP_USER"], &variables["QUEUE_APP_PASSWORD"]);
    assert!(api.knows(user, password).await.unwrap());
    let queues: Value = api.get(&format!("queues/{}", variables["QUEUE_APP_VHOST"])).await.unwrap();
    assert_eq!(queues[0]["name"], "jobs");
    part.give_back().await;
    for _ in 0..1000 {
        if api.find::<Value>("vhosts/devenv_lease_abc").await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the lease is still there");
}

#[tokio::test]
async fn confirmed_messages_are_counted_and_those_that_no_queue_takes_are_refused() {
    let (_secrets, vault) = vault();
    let (amqp, management) = (free_port(), free_port());
    let given = given("queue", json!({ "rabbitmq": {} })).with(|service| service.ports.extend([(5672, amqp), (15672, management)]));
    let service = given.spec().services["queue"].clone();
    let running = start_described(&service, &vault);
    ready(&service.probe, &vault).await;
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    provision(&service.provision[0], &cx).await.unwrap();
    let site = ServerSite {
        service: &service,
        engine: engine().await,
        container: &running.0,
        vault: &vault,
        authority: Path::new("/nonexistent"),
    };

    let password = vault.reveal(&devenv_spec::SecretRef::new("queue", "queue")).unwrap();
    let url = format!("amqp://queue:{password}@127.0.0.1:{amqp}/queue");
    let variables = Variables([("QUEUE_URL".to_owned(), url)].into());
    let site_of_work = WorkloadSite { service: "queue", variables: &variables, run: "r1", label: "w" };
    let mut works = Vec::new();
    for (label, queue) in [("q", "quorum"), ("c", "classic")] {
        let site = WorkloadSite { label, ..site_of_work };
        let work = RabbitmqKind.kinds()[0].work(&json!({ "service": "queue", "queue": queue }), &site).unwrap();
        work.set_up().await.unwrap();
        let mut client = work.client(3);
        assert!(matches!(client.operate(0).await, Reply::Refused(_)), "it is not connected");
        client.connect().await.unwrap();
        for sequence in 0..50 {
            assert_eq!(client.operate(sequence).await, Reply::Acknowledged);
        }
        works.push(work);
    }
    let mut lost = RabbitmqKind.kinds()[0].work(&json!({ "service": "queue" }), &site_of_work).unwrap().client(1);
    lost.connect().await.unwrap();
    assert_eq!(lost.operate(1).await, Reply::Refused("no queue took the message".to_owned()));
    assert!(Channel::open(amqp, "queue", "wrong", "queue").await.is_err());

    let before = RabbitmqKind.contents(&site).await.unwrap().unwrap();
    assert_eq!(before.iter().map(|content| content.rows).skip(1).sum::<u64>(), 100, "{before:?}");
    for work in works {
        for _ in 0..2 {
            let observed = work.read_back().await.unwrap().unwrap();
            assert_eq!((observed.found.len(), observed.strangers), (50, 0), "reading takes nothing away");
        }
        work.clean_up().await.unwrap();
        assert!(work.read_back().await.unwrap().unwrap().found.is_empty(), "a queue that is gone has lost everything");
    }
}

/// Messages that are confirmed right after their queue was declared, and a kill right after that.
#[tokio::test]
async fn confirmed_messages_survive_a_kill() {
    let (_secrets, vault) = vault();
    let (amqp, management) = (free_port(), free_port());
    let given = given("queue", json!({ "rabbitmq": {} })).with(|service| service.ports.extend([(5672, amqp), (15672, management)]));
    let service = given.spec().services["queue"].clone();
    let running = start_described(&service, &vault);
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let is_ready = async || {
        ready(&service.probe, &vault).await;
        provision(&service.provision[0], &cx).await.unwrap();
    };
    is_ready().await;
    let password = vault.reveal(&devenv_spec::SecretRef::new("queue", "queue")).unwrap();
    let open = async || Channel::open(amqp, "queue", &password, "queue").await.unwrap();
    let publish = async |queue: &str| {
        let mut channel = open().await;
        channel.declare(queue, "quorum").await.unwrap();
        channel.confirm().await.unwrap();
        for number in 0..50 {
            assert_eq!(channel.publish(queue, format!("{number}").as_bytes()).await.unwrap(), Confirmation::Accepted);
        }
    };
    let kill = async || {
        docker(&["kill", &running.0]);
        docker(&["start", &running.0]);
        is_ready().await;
    };
    let read = async |queue: &str| {
        let (mut channel, mut found) = (open().await, 0);
        let all = async {
            while channel.get(queue).await.unwrap().is_some() {
                found += 1;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), all).await.expect("the queue answers");
        found
    };
    for queue in ["first", "second"] {
        publish(queue).await;
        kill().await;
        // A broker that is slow to ask the queue counts nothing.
        let counted = async { while open().await.waiting(queue).await.unwrap() != 50 {} };
        tokio::time::timeout(std::time::Duration::from_mins(1), counted).await.expect("a ready broker counts what its queues hold");
        assert_eq!(read(queue).await, 50);
    }

    // As with a broker that kept the directory of its queues in memory: the messages are gone, and the queue is of use again.
    let change = |arguments: &[&str], script: &str| {
        let directory = "/var/lib/rabbitmq/mnesia/rabbit@localhost/quorum/rabbit@localhost";
        let script = format!("cd {directory} && {script}");
        let output = docker(&[arguments, &["sh", "-c", &script]].concat());
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    change(&["exec", &running.0], "cp -p names.dets names.kept");
    publish("third").await;
    docker(&["kill", &running.0]);
    let image = service.container().unwrap().image.name();
    change(&["run", "--rm", "--entrypoint", "env", "--volumes-from", &running.0, image], "mv names.kept names.dets");
    docker(&["start", &running.0]);
    is_ready().await;
    assert_eq!(read("third").await, 0);
    publish("third").await;
    kill().await;
    assert_eq!((read("third").await, read("first").await), (50, 50));
}
