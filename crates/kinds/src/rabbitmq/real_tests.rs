//! A real broker, started as the kind describes it.

use std::fs;

use devenv_api::LedgerState;
use devenv_profile::testing::given;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::{RabbitmqKind, management::Management, spec::RabbitmqProvision};
use crate::{
    capability::Leases,
    probe::real_tests::{free_port, ready, start_described, vault},
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
    for _ in 0..100 {
        if api.find::<Value>("vhosts/devenv_lease_abc").await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the lease is still there");
}
