//! The guide's examples, run as its readers would run them, and comparisons with other programs in their small form.

use std::process::Command;

use crate::corner::binary;

#[track_caller]
fn run(script: &str, arguments: &[&str]) {
    let path = format!("{}/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").arg(path).args(arguments).env("DEVENV_BIN", binary()).output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output_text));
}

#[test]
fn an_order_of_the_shop_has_one_id_in_all_logs_and_in_jaeger_before_and_after_a_reload() {
    run("examples/shop/test.py", &[]);
}

#[test]
fn breakpoints_are_hit_in_each_version_on_the_same_port() {
    run("tests/debuggers/run.py", &["--binary", &binary()]);
}

#[test]
fn scripts_have_the_same_effect_by_psql_and_by_devenv() {
    run("benches/psql_differential.py", &["--binary", &binary(), "--count", "20", "--jobs", "1"]);
}
