//! HTTP requests: each succeeds if the answer has the expected status. They store nothing.

use async_trait::async_trait;

use devenv_kinds::capability::{Client, Observed, Reply, Work, WorkError};

pub(crate) struct Requests {
    http: reqwest::Client,
    url: String,
    status: u16,
}

struct Requester {
    http: reqwest::Client,
    url: String,
    status: u16,
}

impl Requests {
    pub(super) fn new(url: &str, path: &str, status: u16) -> Result<Self, WorkError> {
        let http = reqwest::Client::builder().no_proxy().build().map_err(|error| WorkError::Said(error.to_string()))?;
        Ok(Self { http, url: format!("{}/{}", url.trim_end_matches('/'), path.trim_start_matches('/')), status })
    }
}

#[async_trait]
impl Work for Requests {
    async fn set_up(&self) -> Result<(), WorkError> {
        Ok(())
    }

    fn client(&self, _: u32) -> Box<dyn Client> {
        Box::new(Requester { http: self.http.clone(), url: self.url.clone(), status: self.status })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        Ok(None)
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        Ok(())
    }
}

#[async_trait]
impl Client for Requester {
    async fn connect(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn operate(&mut self, _: u64) -> Reply {
        match self.http.get(&self.url).send().await {
            Ok(answer) if answer.status().as_u16() == self.status => Reply::Acknowledged,
            Ok(answer) => Reply::Refused(format!("the status was {}", answer.status())),
            Err(error) => Reply::Unknown(error.to_string()),
        }
    }
}
