use devenv_api::AskedBy;

use super::*;

fn record(kind: OperationKind) -> Record {
    Record::new(kind, AskedBy::default(), vec![EnvironmentId::recorded("e")])
}

#[tokio::test]
async fn an_operations_pending_undo_is_found_by_the_next_daemon_and_protected_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let store = OperationStore::open(directory.path());
    let operation = store.begin(record(OperationKind::SnapshotSave), false).await.unwrap();
    store.run(&operation.id).await.unwrap();
    let steps = vec![Step::RemoveVolume { name: "copy".to_owned() }, Step::Unpause { container: "db".to_owned() }];
    store.owe(&operation.id, steps.clone()).await.unwrap();
    assert!(store.in_flight().volumes.contains("copy"));
    let next = OperationStore::open(directory.path());
    assert_eq!(next.left()[0].undo, steps);
    assert!(next.in_flight().volumes.contains("copy"));
    next.commit(&operation.id, Vec::new()).await.unwrap();
    next.end(&operation.id, OperationState::Succeeded, None).await.unwrap();
    assert!(next.in_flight().volumes.is_empty());
    assert!(OperationStore::open(directory.path()).left().is_empty());
}

#[tokio::test]
async fn an_operation_that_could_not_be_taken_back_stays_for_the_next_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let store = OperationStore::open(directory.path());
    let operation = store.begin(record(OperationKind::Fork), false).await.unwrap();
    store.owe(&operation.id, vec![Step::RemoveVolume { name: "copy".to_owned() }]).await.unwrap();
    store.end(&operation.id, OperationState::Failed, None).await.unwrap();
    assert_eq!(store.operations()[0].state, OperationState::Failed);
    assert_eq!(OperationStore::open(directory.path()).left().len(), 1);
}

#[tokio::test]
async fn the_last_fifty_are_remembered_and_leases_do_not_displace_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = OperationStore::open(directory.path());
    let end = async |kind| {
        let operation = store.begin(record(kind), false).await.unwrap();
        store.end(&operation.id, OperationState::Succeeded, None).await.unwrap();
    };
    for _ in 0..3 {
        end(OperationKind::Up).await;
    }
    for _ in 0..60 {
        end(OperationKind::Lease).await;
    }
    assert_eq!(store.operations().len(), 3 + KEPT_LEASES);
    for _ in 0..60 {
        end(OperationKind::Down).await;
    }
    assert_eq!(store.operations().len(), KEPT);
    assert_eq!(fs::read_dir(directory.path().join("operations")).unwrap().count(), KEPT);
    assert_eq!(OperationStore::open(directory.path()).operations().len(), KEPT);
}

#[tokio::test]
async fn an_operation_took_as_long_as_it_took_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = OperationStore::open(directory.path());
    let operation = store.begin(record(OperationKind::Restart), true).await.unwrap();
    store.commit(&operation.id, Vec::new()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    store.end(&operation.id, OperationState::Succeeded, None).await;
    assert!(store.operations()[0].duration_ms >= Some(30), "{:?}", store.operations()[0].duration_ms);
}

#[tokio::test]
async fn background_work_is_in_no_list_and_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = OperationStore::open(directory.path());
    let operation = store.begin(Record { background: true, ..record(OperationKind::Build) }, true).await.unwrap();
    store.owe(&operation.id, vec![Step::Unpause { container: "db".to_owned() }]).await.unwrap();
    assert!(store.operations().is_empty() && store.in_flight().containers.contains("db"));
    store.commit(&operation.id, Vec::new()).await.unwrap();
    store.end(&operation.id, OperationState::Succeeded, None).await;
    assert_eq!(fs::read_dir(directory.path().join("operations")).unwrap().count(), 0);
}
