//! Up, down and up again: what is kept, what is recreated, and why.

use crate::{
    clients::{redis, sql},
    corner::{Corner, containers, named},
};

const SHOP: &str = r"
  db:
    postgres:
      databases: { orders: { owner: orders } }
  cache:
    redis: {}
";

#[test]
fn data_ports_and_secrets_stay_with_the_environment_over_down_and_up() {
    let corner = Corner::with(SHOP);
    let first = corner.up("test");
    let (orders, cache) = (corner.variable("DB_ORDERS_URL"), corner.variable("REDIS_URL"));
    sql(&orders, "create table kept (x int); insert into kept values (7)");
    redis(&cache, &["SET", "k", "v"]);
    let down = corner.json(&["down"]);
    assert_eq!(down["phase"], "absent");
    assert!(corner.objects().iter().all(|object| object.starts_with("volume")), "{:?}", corner.objects());

    let second = corner.up("test");
    assert_eq!(named(&first, "db")["ports"], named(&second, "db")["ports"]);
    assert_eq!((corner.variable("DB_ORDERS_URL"), corner.variable("REDIS_URL")), (orders.clone(), cache.clone()));
    assert_eq!(sql(&orders, "select x from kept"), ["7"]);
    assert_eq!(redis(&cache, &["GET", "k"]), "v");
}

#[test]
fn a_second_up_changes_nothing() {
    let corner = Corner::with(SHOP);
    let first = corner.up("test");
    let steps = corner.json(&["plan", "test"])["steps"].clone();
    assert!(steps.as_array().unwrap().iter().all(|step| step["action"] == "none"), "{steps}");
    assert_eq!(containers(&corner.up("test")), containers(&first));
}

#[test]
fn a_changed_setting_recreates_its_service_alone_with_the_reason_and_keeps_the_data() {
    let corner = Corner::with(SHOP);
    let before = corner.up("test");
    let orders = corner.variable("DB_ORDERS_URL");
    sql(&orders, "create table kept (x int); insert into kept values (7)");
    corner.rewrite(&SHOP.replace("postgres:\n", "postgres:\n      settings: { shared_buffers: 96MB }\n"));

    let steps = corner.json(&["plan", "test"])["steps"].clone();
    let step = |name: &str| steps.as_array().unwrap().iter().find(|step| step["service"] == name).unwrap().clone();
    assert_eq!(step("cache")["action"], "none");
    assert_eq!(step("db")["action"], "recreate");
    assert!(step("db")["reason"].as_str().unwrap().contains("shared_buffers"), "{}", step("db"));
    assert_ne!(step("db")["consequence"], "data-loss");

    let after = corner.up("test");
    assert_eq!(named(&after, "cache")["container"], named(&before, "cache")["container"]);
    assert_ne!(named(&after, "db")["container"], named(&before, "db")["container"]);
    assert_eq!(sql(&orders, "show shared_buffers"), ["96MB"]);
    assert_eq!(sql(&orders, "select x from kept"), ["7"]);
}

#[test]
fn volumes_that_went_with_down_come_back_with_undo() {
    let corner = Corner::with(SHOP);
    corner.up("test");
    sql(&corner.variable("DB_ORDERS_URL"), "create table kept (x int); insert into kept values (7)");
    corner.ok(&["down", "--volumes"]);

    let restored = corner.ok(&["undo"]);
    assert!(restored.contains("db/data"), "{restored}");
    corner.up("test");
    assert_eq!(sql(&corner.variable("DB_ORDERS_URL"), "select x from kept"), ["7"]);
}

#[test]
fn every_major_of_postgres_comes_up_and_keeps_its_data() {
    let majors = ["14", "15", "16", "17", "18"];
    let services = majors.map(|major| format!("  v{major}:\n    postgres: {{ version: \"{major}\" }}\n"));
    let corner = Corner::with(&services.concat());
    corner.up("test");
    for major in majors {
        let url = corner.variable(&format!("V{major}_URL"));
        assert!(sql(&url, "show server_version")[0].starts_with(major));
        sql(&url, &format!("create table kept (x int); insert into kept values ({major})"));
    }
    corner.ok(&["down"]);
    corner.up("test");
    for major in majors {
        assert_eq!(sql(&corner.variable(&format!("V{major}_URL")), "select x from kept"), [major]);
    }
}
