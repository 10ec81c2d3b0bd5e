//! Load tests against a real server.

use std::fs;

use crate::corner::Corner;

const FILE: &str = "profile: data\nworkload:\n  rows: { postgres-rows: { service: db, clients: 4, rate: 100/s } }\n  \
                    keys: { redis-keys: { service: cache, clients: 2 } }\nfor: 2s\nramp: [{ to: 8, over: 1s }]\n\
                    budgets:\n  rows.p95: \"< 60s\"\n  keys.count: \"> 0\"\n";

#[test]
fn a_load_test_measures_its_workloads_removes_what_they_made_and_keeps_its_budgets() {
    let corner = Corner::new();
    fs::write(corner.project().join("load.yaml"), FILE).unwrap();
    let out = corner.project().join("out");
    let report = corner.json(&["load", "load.yaml", "--report", out.to_str().unwrap()]);
    assert_eq!(report["verdict"], "pass", "{report}");
    let rows = &report["figures"]["rows"];
    assert!(rows["count"].as_u64().unwrap() > 0 && rows["p95_ms"].as_f64().unwrap() > 0.0, "{report}");
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("rows.p95"));
    let tables =
        corner.ok(&["psql", "--", "-Atc", "select count(*) from pg_tables where schemaname = 'public' and tablename like '%devenv%'"]);
    assert_eq!(tables.trim(), "0");

    fs::write(corner.project().join("load.yaml"), FILE.replace("< 60s", "< 1us")).unwrap();
    let failed = corner.devenv(&["load", "load.yaml"]).expect(10);
    assert!(failed.stdout.contains("rows.p95 < 1us"), "{}", failed.stdout);
}
