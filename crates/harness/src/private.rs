//! The private part of a service that a test uses alone, as long as the value lives.

use indexmap::IndexMap;

use crate::{HarnessError, TestEnvironment, granted::Granted};

impl TestEnvironment {
    /// A database of a PostgreSQL service, by its name in the profile.
    pub fn postgres(&self, database: &str) -> Postgres {
        Postgres { environment: self.clone(), database: database.to_owned() }
    }

    /// The first Redis service.
    pub fn redis(&self) -> Redis {
        Redis { environment: self.clone() }
    }

    /// The first Kafka or Redpanda service.
    pub fn kafka(&self) -> Kafka {
        Kafka { environment: self.clone() }
    }
}

/// A PostgreSQL database that tests get private copies of.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub(crate) environment: TestEnvironment,
    pub(crate) database: String,
}

impl Postgres {
    /// A copy of the database as it was initialised and seeded.
    pub async fn fresh(&self) -> Result<PrivateDatabase, HarnessError> {
        self.environment.lease(&["postgres"], Some(&self.database)).await.map(PrivateDatabase)
    }
}

/// A private database.
#[derive(Debug)]
pub struct PrivateDatabase(Granted);

impl PrivateDatabase {
    /// `postgres://USER:SECRET@HOST:PORT/NAME`.
    pub fn url(&self) -> &str {
        self.0.own("URL")
    }

    pub fn name(&self) -> &str {
        self.0.lease.database.as_deref().unwrap_or_default()
    }

    /// All of the environment's variables, with this database's values: for a program that the test starts.
    pub fn variables(&self) -> &IndexMap<String, String> {
        &self.0.lease.variables
    }

    /// Releases it now, and returns an error if that fails. Dropping it releases it too.
    pub async fn release(self) -> Result<(), HarnessError> {
        Ok(self.0.holding.release().await?)
    }
}

/// A Redis server that tests get private databases of.
#[derive(Debug, Clone)]
pub struct Redis {
    pub(crate) environment: TestEnvironment,
}

impl Redis {
    /// An empty numbered database, with a user who can select no other.
    pub async fn fresh(&self) -> Result<PrivateRedis, HarnessError> {
        self.environment.lease(&["redis"], None).await.map(PrivateRedis)
    }
}

#[derive(Debug)]
pub struct PrivateRedis(Granted);

impl PrivateRedis {
    /// `redis://USER:SECRET@HOST:PORT/NUMBER`.
    pub fn url(&self) -> &str {
        self.0.own("URL")
    }

    /// All of the environment's variables, with this database's values.
    pub fn variables(&self) -> &IndexMap<String, String> {
        &self.0.lease.variables
    }

    /// Releases it now, and returns an error if that fails. Dropping it releases it too.
    pub async fn release(self) -> Result<(), HarnessError> {
        Ok(self.0.holding.release().await?)
    }
}

/// A Kafka broker that tests get private topic names on.
#[derive(Debug, Clone)]
pub struct Kafka {
    pub(crate) environment: TestEnvironment,
}

impl Kafka {
    /// A private prefix.
    pub async fn fresh(&self) -> Result<PrivateTopics, HarnessError> {
        self.environment.lease(&["kafka", "redpanda"], None).await.map(PrivateTopics)
    }
}

#[derive(Debug)]
pub struct PrivateTopics(Granted);

impl PrivateTopics {
    /// `HOST:PORT`.
    pub fn brokers(&self) -> &str {
        self.0.own("BROKERS")
    }

    /// The private name of a topic, which is made at its first use and deleted with the lease.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.0.own("TOPIC_PREFIX"))
    }

    /// The private name of a consumer group.
    pub fn group(&self, name: &str) -> String {
        format!("{}{name}", self.0.own("GROUP_PREFIX"))
    }

    /// All of the environment's variables, with the prefixes.
    pub fn variables(&self) -> &IndexMap<String, String> {
        &self.0.lease.variables
    }

    /// Releases it now, and returns an error if that fails. Dropping it releases it too.
    pub async fn release(self) -> Result<(), HarnessError> {
        Ok(self.0.holding.release().await?)
    }
}
