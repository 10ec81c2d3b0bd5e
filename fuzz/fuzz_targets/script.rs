//! Any bytes as a SQL script, and as what the clients of PostgreSQL and MariaDB say of one.
#![no_main]

use devenv_fuzz::with_script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    devenv_kinds::postgres::fuzzing::script(bytes);
    let said = String::from_utf8_lossy(bytes);
    with_script("init/a.sql", bytes, |script| {
        devenv_kinds::postgres::fuzzing::complaint(&said, script);
        devenv_kinds::mariadb::fuzzing::script(script, &said);
    });
});
