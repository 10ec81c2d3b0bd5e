//! Several environments of one project side by side.

use std::thread;

use crate::{
    clients::{redis, sql},
    corner::{Corner, containers},
};

#[test]
fn two_instances_brought_up_by_four_callers_at_once_never_meet() {
    let corner = Corner::new();
    let up = |name: &'static str| corner.json(&["up", "data", "--instance", name]);
    let statuses: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = ["one", "two", "one", "two"].map(|name| scope.spawn(move || up(name))).into();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| status["phase"] == "ready"), "{statuses:?}");
    assert_eq!(containers(&statuses[0]), containers(&statuses[2]));
    assert_ne!(statuses[0]["environment"], statuses[1]["environment"]);

    let url = |name: &str, variable: &str| corner.variables(&["--instance", name])[variable].as_str().unwrap().to_owned();
    redis(&url("one", "REDIS_URL"), &["SET", "whose", "one"]);
    redis(&url("two", "REDIS_URL"), &["SET", "whose", "two"]);
    assert_eq!(redis(&url("one", "REDIS_URL"), &["GET", "whose"]), "one");
    sql(&url("one", "DATABASE_URL"), "create table only_here ()");
    sql(&url("two", "DATABASE_URL"), "create table only_here ()");
    assert_eq!(corner.json(&["list"]).as_array().unwrap().len(), 2);

    corner.ok(&["down", "--instance", "one"]);
    assert_eq!(redis(&url("two", "REDIS_URL"), &["GET", "whose"]), "two");
}
