//! Five hundred tests, for a runner that gives each a process of its own: `cargo nextest run` here, with `DEVENV_BIN` set.
//! `LATENCIES` names a file that gets a line from each: the milliseconds for the environment, and for the lease.

use std::{fs::OpenOptions, io::Write, time::Instant};

use devenv_bench_suite::{connect, the_test};
use devenv_harness::TestEnvironment;

#[tokio::main(flavor = "current_thread")]
async fn run() {
    let began = Instant::now();
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/project");
    let environment = TestEnvironment::of("ci").project(project).shared().await.expect("an environment");
    let up = began.elapsed();
    let database = environment.postgres("app").fresh().await.expect("a private database");
    let leased = began.elapsed();
    the_test(&connect(database.url()).await.expect("a connection")).await;
    if let Some(path) = std::env::var_os("LATENCIES") {
        let line = format!("{:.1} {:.1}\n", up.as_secs_f64() * 1000.0, (leased - up).as_secs_f64() * 1000.0);
        OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes())).expect("a note");
    }
}

macro_rules! ones {
    ($($name:ident)*) => { $(#[test] fn $name() { crate::run(); })* };
}
macro_rules! tens {
    ($($name:ident)*) => { $(mod $name { ones!(n0 n1 n2 n3 n4 n5 n6 n7 n8 n9); })* };
}
macro_rules! hundreds {
    ($($name:ident)*) => { $(mod $name { tens!(t0 t1 t2 t3 t4 t5 t6 t7 t8 t9); })* };
}

hundreds!(h0 h1 h2 h3 h4);
