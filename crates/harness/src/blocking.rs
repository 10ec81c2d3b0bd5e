//! The same for tests without an async runtime: every value brings its own, on the calling thread.
//!
//! ```no_run
//! # fn test() -> Result<(), devenv_harness::HarnessError> {
//! use devenv_harness::blocking::TestEnvironment;
//!
//! let orders = TestEnvironment::shared("ci")?.postgres("orders")?;
//! println!("connect to {}", orders.url());
//! # Ok(())
//! # }
//! ```

use std::{ops::Deref, rc::Rc};

use tokio::runtime::Runtime;

use crate::{HarnessError, PrivateDatabase, PrivateRedis, PrivateTopics};

/// One environment that is up.
#[derive(Debug, Clone)]
pub struct TestEnvironment {
    environment: crate::TestEnvironment,
    runtime: Rc<Runtime>,
}

/// Something private, with the runtime that its connection lives in.
#[derive(Debug)]
pub struct Private<T> {
    // Dropped before the runtime.
    private: T,
    _runtime: Rc<Runtime>,
}

impl<T> Deref for Private<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.private
    }
}

impl TestEnvironment {
    /// As [`crate::TestEnvironment::shared`].
    pub fn shared(profile: &str) -> Result<Self, HarnessError> {
        Self::new(crate::TestEnvironment::of(profile))
    }

    /// As [`crate::Builder::shared`].
    pub fn new(builder: crate::Builder) -> Result<Self, HarnessError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HarnessError::NotRun)?;
        let environment = runtime.block_on(builder.shared())?;
        Ok(Self { environment, runtime: Rc::new(runtime) })
    }

    /// A private copy of the database.
    pub fn postgres(&self, database: &str) -> Result<Private<PrivateDatabase>, HarnessError> {
        self.private(self.environment.postgres(database).fresh())
    }

    /// A private database of the first Redis service.
    pub fn redis(&self) -> Result<Private<PrivateRedis>, HarnessError> {
        self.private(self.environment.redis().fresh())
    }

    /// A private prefix on the first Kafka or Redpanda service.
    pub fn kafka(&self) -> Result<Private<PrivateTopics>, HarnessError> {
        self.private(self.environment.kafka().fresh())
    }

    /// As [`crate::TestEnvironment::close`].
    pub fn close(self) -> Result<(), HarnessError> {
        self.runtime.block_on(self.environment.close())
    }

    fn private<T>(&self, granted: impl Future<Output = Result<T, HarnessError>>) -> Result<Private<T>, HarnessError> {
        Ok(Private { private: self.runtime.block_on(granted)?, _runtime: self.runtime.clone() })
    }
}
