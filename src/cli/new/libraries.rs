//! PURE: client libraries, by the names that manifests and lock files have for them, and the kinds of servers that they need.

use serde_json::Value;

/// A kind of server: its name, the service's name, whether it takes scripts in SQL, how its URLs and variables begin, and its client
/// libraries.
pub(super) struct Server {
    pub(super) kind: &'static str,
    pub(super) service: &'static str,
    pub(super) sql: bool,
    /// The port that it has everywhere, if no other program is likely to have it.
    pub(super) port: Option<u16>,
    /// Schemes of URLs in examples of env files, and words in the names of dev container features.
    pub(super) schemes: &'static [&'static str],
    pub(super) words: &'static [&'static str],
    /// Variables that the kind provides besides those that begin with the service's name.
    pub(super) provides: &'static [&'static str],
    pub(super) libraries: &'static [&'static str],
}

pub(super) const SERVERS: &[Server] = &[
    Server {
        kind: "postgres",
        service: "db",
        sql: true,
        port: Some(5432),
        schemes: &["postgres", "postgresql"],
        words: &["postgres", "postgresql"],
        provides: &["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"],
        libraries: &[
            "pg",
            "postgres",
            "pg-promise",
            "slonik",
            "psycopg",
            "psycopg2",
            "psycopg2-binary",
            "asyncpg",
            "tokio-postgres",
            "sqlx",
            "diesel",
            "github.com/lib/pq",
            "github.com/jackc/pgx",
            "postgresql",
            "typeorm",
            "@prisma/client",
            "drizzle-orm",
            "psycopg-binary",
            "r2dbc-postgresql",
            "psycopg-pool",
            "deadpool-postgres",
        ],
    },
    Server {
        kind: "mariadb",
        service: "mysql",
        sql: true,
        port: Some(3306),
        schemes: &["mysql", "mariadb"],
        words: &["mysql", "mariadb"],
        provides: &[],
        libraries: &[
            "mysql",
            "mysql2",
            "mariadb",
            "pymysql",
            "mysqlclient",
            "mysql_async",
            "github.com/go-sql-driver/mysql",
            "mysql-connector-j",
            "mysql-connector-java",
            "mariadb-java-client",
            "aiomysql",
            "trilogy",
        ],
    },
    Server {
        kind: "redis",
        service: "cache",
        sql: false,
        port: Some(6379),
        schemes: &["redis", "rediss"],
        words: &["redis"],
        provides: &["REDIS_URL"],
        libraries: &[
            "redis",
            "ioredis",
            "bullmq",
            "bull",
            "celery",
            "rq",
            "sidekiq",
            "fred",
            "github.com/redis/go-redis",
            "github.com/go-redis/redis",
            "jedis",
            "lettuce-core",
            "spring-boot-starter-data-redis",
            "aioredis",
            "bb8-redis",
            "deadpool-redis",
            "redis-namespace",
            "django-redis",
        ],
    },
    Server {
        kind: "kafka",
        service: "events",
        sql: false,
        port: Some(9092),
        schemes: &["kafka"],
        words: &["kafka"],
        provides: &["KAFKA_BROKERS", "KAFKA_BOOTSTRAP_SERVERS"],
        libraries: &[
            "kafkajs",
            "node-rdkafka",
            "kafka-python",
            "confluent-kafka",
            "aiokafka",
            "rdkafka",
            "github.com/segmentio/kafka-go",
            "github.com/ibm/sarama",
            "github.com/twmb/franz-go",
            "spring-kafka",
            "kafka-clients",
            "karafka",
            "ruby-kafka",
            "rdkafka-ruby",
            "faust-streaming",
        ],
    },
    Server {
        kind: "rabbitmq",
        service: "queue",
        sql: false,
        port: Some(5672),
        schemes: &["amqp", "amqps"],
        words: &["rabbitmq"],
        provides: &[],
        libraries: &[
            "amqplib",
            "pika",
            "aio-pika",
            "kombu",
            "lapin",
            "github.com/rabbitmq/amqp091-go",
            "github.com/streadway/amqp",
            "bunny",
            "spring-boot-starter-amqp",
            "amqp-client",
            "amqp-connection-manager",
            "amqprs",
        ],
    },
    Server {
        kind: "s3",
        service: "files",
        sql: false,
        port: None,
        schemes: &["s3"],
        words: &["minio"],
        provides: &["AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"],
        libraries: &[
            "@aws-sdk/client-s3",
            "minio",
            "boto3",
            "aws-sdk-s3",
            "github.com/aws/aws-sdk-go-v2/service/s3",
            "rusty-s3",
            "aioboto3",
        ],
    },
    Server {
        kind: "jaeger",
        service: "tracing",
        sql: false,
        port: Some(16686),
        schemes: &[],
        words: &["jaeger"],
        provides: &["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"],
        libraries: &[
            "@opentelemetry/sdk-node",
            "@opentelemetry/api",
            "opentelemetry-sdk",
            "opentelemetry",
            "opentelemetry-otlp",
            "go.opentelemetry.io/otel",
            "opentelemetry-api",
        ],
    },
];

/// The names of libraries in a manifest.
pub(super) fn libraries(manifest: &str, text: &str) -> Vec<String> {
    if manifest == "package.json" {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let sections = ["dependencies", "devDependencies", "optionalDependencies"];
        return sections
            .iter()
            .flat_map(|section| value[*section].as_object().into_iter().flatten())
            .map(|(name, _)| name.clone())
            .collect();
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@');
    text.split(|c| !word(c)).filter(|name| !name.is_empty()).map(str::to_lowercase).collect()
}

/// A Go module has its version in its path.
pub(super) fn is_library(name: &str, library: &str) -> bool {
    name == library || (library.contains('/') && name.strip_prefix(library).is_some_and(|rest| rest.starts_with("/v")))
}

/// The texts between quotation marks.
pub(super) fn quoted_texts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'']) {
        let mark = rest.as_bytes()[at] as char;
        let Some((inner, after)) = rest[at + 1..].split_once(mark) else { break };
        found.push(inner.to_owned());
        rest = after;
    }
    found
}
