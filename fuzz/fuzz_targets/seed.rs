//! Any bytes as a data set: CSV, commands and keys of Redis, records and topics of Kafka, messages of RabbitMQ, also compressed.
#![no_main]

use devenv_fuzz::{split_first, with_script};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (which, bytes) = split_first(bytes);
    let packed = ["", "", "", "", "", ".gz", ".xz", ".zst"][usize::from(which >> 4) % 8];
    let named = |name: &str| format!("seed/{name}{packed}");
    match which % 6 {
        0 => devenv_kinds::postgres::fuzzing::csv(bytes),
        1 => with_script(&named("t.csv"), bytes, devenv_kinds::mariadb::fuzzing::csv),
        2 => with_script(&named("a.redis"), bytes, devenv_kinds::redis::fuzzing::commands),
        3 => with_script(&named("a.jsonl"), bytes, devenv_kinds::redis::fuzzing::keys),
        4 => with_script(&named("a.jsonl"), bytes, devenv_kinds::kafka::fuzzing::seed),
        _ => with_script(&named("a.jsonl"), bytes, devenv_kinds::rabbitmq::fuzzing::messages),
    }
});
