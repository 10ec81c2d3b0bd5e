use super::*;

/// The source of a line.
enum From {
    Log,
    Probe,
    Engine,
}

fn cause_of(kind: &str, from: From, line: &str) -> Option<String> {
    let mut evidence = Evidence { kind: kind.to_owned(), service: "db".to_owned(), exit_code: Some(1), ..Evidence::default() };
    match from {
        From::Log => evidence.log = vec!["starting".to_owned(), line.to_owned(), "stopped".to_owned()],
        From::Probe => evidence.probe = vec!["nothing listens on 127.0.0.1:1".to_owned(), line.to_owned()],
        From::Engine => evidence.engine = Some(line.to_owned()),
    }
    diagnose(&evidence).map(|diagnosis| diagnosis.cause)
}

#[test]
fn every_line_of_a_real_failure_is_explained_by_its_cause() {
    use From::{Engine, Log, Probe};
    let table: &[(&str, From, &str, &str)] = &[
        ("postgres", Log, "FATAL:  could not map anonymous shared memory: Cannot allocate memory", "shared_buffers"),
        ("postgres", Log, "FATAL:  data directory \"/var/lib/postgresql/data\" has wrong ownership", "another user"),
        ("postgres", Log, "FATAL:  data directory \"/var/lib/postgresql/data\" has invalid permissions", "other users can read"),
        (
            "postgres",
            Log,
            "2026-11-21 09:00:00.000 UTC [1] DETAIL:  The data directory was initialized by PostgreSQL version 16, which is not compatible with this version 17.5 (Debian 17.5-1).",
            "another major version",
        ),
        ("postgres", Log, "FATAL:  database files are incompatible with server", "another major version"),
        ("postgres", Log, "FATAL:  \"/var/lib/postgresql/data\" is not a valid data directory", "other than PostgreSQL data"),
        ("postgres", Log, "initdb: error: directory \"/var/lib/postgresql/data\" exists but is not empty", "not empty"),
        ("postgres", Log, "FATAL:  lock file \"postmaster.pid\" already exists", "another PostgreSQL server runs"),
        (
            "postgres",
            Log,
            "LOG:  unrecognized configuration parameter \"shared_bufers\" in file \"/etc/postgresql.conf\" line 3",
            "no setting `shared_bufers`",
        ),
        ("postgres", Log, "FATAL:  unrecognized configuration parameter \"foo\"", "no setting `foo`"),
        (
            "postgres",
            Log,
            "FATAL:  invalid value for parameter \"shared_buffers\": \"lots\"",
            "value `lots` of the setting `shared_buffers`",
        ),
        ("postgres", Log, "FATAL:  0 is outside the valid range for parameter \"max_connections\" (1 .. 262143)", "`max_connections`"),
        ("postgres", Log, "FATAL:  could not access file \"timescaledb\": No such file or directory", "library `timescaledb`"),
        ("postgres", Log, "PANIC:  could not locate a valid checkpoint record at 0/14E95B0", "damaged"),
        ("postgres", Log, "PANIC:  could not write to file \"pg_wal/xlogtemp.29\": No space left on device", "disk"),
        ("postgres", Log, "Error: Database is uninitialized and superuser password is not specified.", "none is set"),
        ("postgres", Probe, "password authentication failed for user \"postgres\" (SQLSTATE 28P01)", "another password"),
        ("postgres", Probe, "sorry, too many clients already (SQLSTATE 53300)", "connections are in use"),
        ("postgres", Probe, "no pg_hba.conf entry for host \"172.18.0.1\", user \"postgres\" (SQLSTATE 28000)", "interrupted"),
        ("redis", Log, "*** FATAL CONFIG FILE ERROR (Redis 8.0.2) ***", "configuration"),
        ("redis", Log, "1:M 21 Nov 2026 09:53:12.348 # >>> 'foo bar'", "configuration: 'foo bar'"),
        ("redis", Log, ">>> 'maxmemory \"lots\"'", "configuration: 'maxmemory \"lots\"'"),
        ("redis", Log, "1:M 21 Nov 2026 09:53:13.163 # Short read or OOM loading DB. Unrecoverable error, aborting now.", "truncated"),
        ("redis", Log, "Bad directive or wrong number of arguments", "no such setting"),
        (
            "redis",
            Log,
            "1:M 21 Nov 2026 09:00:00.000 # Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>",
            "damaged",
        ),
        (
            "redis",
            Log,
            "1:M 21 Nov 2026 09:00:00.000 # Unexpected end of file reading the append only file appendonly.aof.1.incr.aof. You can: 1) Make a backup of your AOF file",
            "middle of a command",
        ),
        ("redis", Log, "1:M 21 Nov 2026 09:00:00.000 # Can't handle RDB format version 80", "newer version of Redis"),
        ("redis", Log, "1:M 21 Nov 2026 09:00:00.000 # Fatal error loading the DB, check server logs. Exiting.", "cannot be read"),
        ("redis", Log, "1:M 21 Nov 2026 09:00:00.000 # Wrong signature trying to load DB from file", "not a Redis dump"),
        (
            "redis",
            Log,
            "1:M 21 Nov 2026 09:00:00.000 # Can't open or create append-only dir appendonlydir: Permission denied",
            "another user",
        ),
        ("redis", Log, "Out Of Memory allocating 1073741824 bytes!", "ran out of memory"),
        ("redis", Probe, "WRONGPASS invalid username-password pair or user is disabled.", "another password"),
        (
            "kafka",
            Log,
            "java.lang.RuntimeException: Invalid cluster.id in: /var/lib/kafka/data/meta.properties. Expected 5L6g3nShT-eMCtK--X86sw, but read MkU3OEVBNTcwNTJENDM2Qk",
            "another Kafka cluster",
        ),
        (
            "kafka",
            Log,
            "kafka.common.InconsistentClusterIdException: The Cluster ID x doesn't match stored clusterId Some(y) in meta.properties.",
            "another Kafka cluster",
        ),
        ("kafka", Log, "java.lang.OutOfMemoryError: Java heap space", "out of memory"),
        ("kafka", Log, "# There is insufficient memory for the Java Runtime Environment to continue.", "not enough memory"),
        (
            "kafka",
            Log,
            "java.lang.IllegalArgumentException: requirement failed: advertised.listeners listener names must be equal to or a subset of the ones defined in listeners.",
            "contradict each other",
        ),
        (
            "kafka",
            Log,
            "org.apache.kafka.common.config.ConfigException: Invalid value soon for configuration log.retention.ms: Not a number of type LONG",
            "configuration: Invalid value soon",
        ),
        (
            "kafka",
            Log,
            "Exception in thread \"main\" java.lang.IllegalArgumentException: Error creating broker listeners from '[OTHER://127.0.0.1:9092]': No security protocol defined for listener OTHER",
            "contradict each other",
        ),
        (
            "kafka",
            Log,
            "Exception in thread \"main\" java.lang.RuntimeException: Stored node id 1 doesn't match previous node id 2 in /var/lib/kafka/data/meta.properties.",
            "another id",
        ),
        (
            "kafka",
            Log,
            "org.apache.kafka.common.errors.CorruptRecordException: Record is corrupt (stored crc = 614329332, computed crc = 3923432406)",
            "damaged",
        ),
        (
            "kafka",
            Log,
            "java.nio.file.AccessDeniedException: /var/lib/kafka/data/meta.properties",
            "cannot access /var/lib/kafka/data/meta.properties",
        ),
        (
            "postgres",
            Log,
            "initdb: error: could not access directory \"/var/lib/postgresql/data\": Permission denied",
            "no permission for a file",
        ),
        (
            "kafka",
            Log,
            "ERROR Shutdown broker because all log dirs in /var/lib/kafka/data have failed (kafka.log.LogManager)",
            "no longer write",
        ),
        (
            "kafka",
            Log,
            "org.apache.kafka.common.KafkaException: Failed to acquire lock on file .lock in /var/lib/kafka/data. A Kafka instance in another process or thread is using this directory.",
            "another Kafka broker runs",
        ),
        ("kafka", Log, "java.io.IOException: No space left on device", "disk"),
        ("kafka", Probe, "the broker advertises kafka:9092 instead of 127.0.0.1:25001", "another address"),
        (
            "container",
            Engine,
            "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"srv\": executable file not found in $PATH: unknown",
            "not in its image: `srv`",
        ),
        ("container", Engine, "standard_init_linux.go:228: exec user process caused: exec format error", "another CPU architecture"),
        ("container", Log, "exec /usr/local/bin/docker-entrypoint.sh: exec format error", "another CPU architecture"),
        ("container", Engine, "starting container process caused: exec: \"/app/run.sh\": permission denied: unknown", "not executable"),
        (
            "container",
            Engine,
            "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:5432 failed: port is already allocated",
            "another container",
        ),
        ("container", Engine, "Error starting userland proxy: listen tcp4 127.0.0.1:5432: bind: address already in use", "another program"),
        (
            "container",
            Engine,
            "pull access denied for acme/none, repository does not exist or may require 'docker login'",
            "does not exist",
        ),
        ("container", Engine, "manifest for redis:99 not found: manifest unknown: manifest unknown", "not this version"),
        ("container", Engine, "no matching manifest for linux/arm64/v8 in the manifest list entries", "this machine's CPU architecture"),
        ("container", Engine, "toomanyrequests: You have reached your pull rate limit.", "rate limit"),
        (
            "container",
            Engine,
            "cannot get its image: image `redis:99` does not exist locally, and `--offline` forbids pulling it",
            "pulling is disabled",
        ),
        (
            "container",
            Engine,
            "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
            "cannot be resolved",
        ),
        ("container", Engine, "Get \"https://registry-1.docker.io/v2/\": dial tcp 1.2.3.4:443: i/o timeout", "unreachable"),
        ("container", Engine, "invalid mount config for type \"bind\": bind source path does not exist: /home/a/none", "does not exist"),
        ("process", Log, "Error: listen EADDRINUSE: address already in use :::3000", "already in use"),
        ("process", Log, "OSError: [Errno 98] Address already in use", "already in use"),
        ("container", Log, "nginx: [emerg] open() \"/etc/nginx/nginx.conf\" failed (13: Permission denied)", "no permission for a file"),
        ("container", Log, "connect: network is unreachable", "is unreachable"),
    ];
    for (kind, from, line, cause) in table.iter().map(|(kind, from, line, cause)| (*kind, from, *line, *cause)) {
        let from = match from {
            Log => Log,
            Probe => Probe,
            Engine => Engine,
        };
        let cause_of = cause_of(kind, from, line);
        assert!(cause_of.as_deref().is_some_and(|cause_of| cause_of.contains(cause)), "{line}\n  gives {cause_of:?}");
    }
}

/// As the diagnosis gets them: in devenv's own message, which names the action.
#[test]
fn the_words_of_an_engine_are_found_in_the_message_that_passes_them_on() {
    for (status, message, cause) in [
        (400, "OCI runtime create failed: exec: \"srv\": executable file not found in $PATH: unknown", "not in its image: `srv`"),
        (404, "pull access denied for shop/api, repository does not exist or may require 'docker login'", "or is private"),
        (404, "manifest for postgres:99 not found: manifest unknown: manifest unknown", "but not this version"),
        (500, "no matching manifest for linux/arm64/v8 in the manifest list entries", "CPU architecture"),
        (500, "toomanyrequests: You have reached your pull rate limit", "rate limit"),
        (500, "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host", "cannot be resolved"),
        (500, "Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout", "does not answer in time"),
        (400, "invalid mount config for type \"bind\": bind source path does not exist: /nowhere", "mounts does not exist"),
        (500, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "the disk of the container engine is full"),
    ] {
        let error = devenv_engine::EngineError::Refused { action: "create the container".to_owned(), status, message: message.to_owned() };
        let passed_on = format!("cannot be created: {error}");
        let found = cause_of("container", From::Engine, &passed_on);
        assert!(found.as_deref().is_some_and(|found| found.contains(cause)), "{passed_on}\n  gives {found:?}");
    }
}

#[test]
fn unknown_failures_get_no_diagnosis() {
    assert_eq!(cause_of("postgres", From::Log, "LOG:  database system is ready to accept connections"), None);
    assert_eq!(cause_of("redis", From::Log, "FATAL:  lock file \"postmaster.pid\" already exists"), None);
    // A client's mistake in the server's log is no reason why the server failed.
    assert_eq!(cause_of("postgres", From::Log, "FATAL:  password authentication failed for user \"app\""), None);
    assert_eq!(cause_of("postgres", From::Log, "ERROR:  invalid value for parameter \"work_mem\": \"x\""), None);
    assert_eq!(cause_of("process", From::Log, "permission denied for table users"), None);
    assert_eq!(diagnose(&Evidence::default()), None);
}

#[test]
fn memory_comes_before_everything_and_an_exit_code_after_everything() {
    let mut evidence = Evidence {
        kind: "kafka".to_owned(),
        service: "events".to_owned(),
        exit_code: Some(137),
        out_of_memory: true,
        log: vec!["java.io.IOException: No space left on device".to_owned()],
        ..Evidence::default()
    };
    let memory = diagnose(&evidence).unwrap();
    assert_eq!(memory.cause, "the kernel killed `events` because it exceeded its memory limit");
    assert_eq!(memory.fix, "raise `services.events.resources.memory`, or reduce the memory usage of `events`");
    evidence.out_of_memory = false;
    assert_eq!(diagnose(&evidence).unwrap().cause, "the disk that `events` writes to is full");
    evidence.log.clear();
    let causes = [137, 127, 126, 139, 1].map(|code| {
        evidence.exit_code = Some(code);
        diagnose(&evidence).map(|diagnosis| diagnosis.cause)
    });
    assert!(causes[0].as_deref().unwrap().contains("SIGKILL"));
    assert!(causes[1].as_deref().unwrap().contains("not found"));
    assert!(causes[2].as_deref().unwrap().contains("cannot be executed"));
    assert!(causes[3].as_deref().unwrap().contains("segmentation"));
    assert_eq!(causes[4], None);
}

#[test]
fn words_in_the_table_are_in_small_letters_and_every_fix_is_filled() {
    let own = crate::all().flat_map(ServiceKind::causes);
    for cause in FIRST.iter().chain(LAST).chain(own) {
        for word in cause.words.iter().chain(cause.without) {
            assert_eq!(*word, word.to_lowercase());
        }
        assert!(!cause.cause.ends_with('.') && !cause.fix.ends_with('.'), "{}", cause.cause);
    }
    let evidence = Evidence {
        kind: "postgres".to_owned(),
        service: "db".to_owned(),
        log: vec!["FATAL:  invalid value for parameter \"work_mem\": \"x\"".to_owned()],
        ..Evidence::default()
    };
    assert_eq!(diagnose(&evidence).unwrap().fix, "fix `work_mem` under `settings` of `db`");
}
