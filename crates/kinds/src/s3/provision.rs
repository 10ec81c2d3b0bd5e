//! Creates buckets with requests that `rusty-s3` signs: two verbs are sufficient.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use devenv_spec::OfKind;
use reqwest::{Client, Method, Response, StatusCode};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::{S3Kind, spec::S3Provision};
use crate::{
    capability::Provisions,
    limited,
    provision::{Change, ProvisionContext, ProvisionError},
};

/// Any region can be signed; such stores and clients assume this one.
const REGION: &str = "us-east-1";

/// How long a signed request is valid. It is sent at once; clocks of containers and host may differ a little.
pub(super) const VALID: Duration = Duration::from_mins(5);

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("these options are valid"));

#[async_trait]
impl Provisions for S3Kind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        apply(&wanted.decode()?, cx).await
    }
}

async fn apply(wanted: &S3Provision, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    let credentials = Credentials::new(cx.vault.reveal(&wanted.access_key)?, cx.vault.reveal(&wanted.secret_key)?);
    let mut changes = Vec::new();
    for name in &wanted.buckets {
        let bucket = bucket(wanted.port, name)?;
        if send(Method::HEAD, bucket.head_bucket(Some(&credentials)).sign(VALID)).await?.status().is_success() {
            continue;
        }
        let answer = send(Method::PUT, bucket.create_bucket(&credentials).sign(VALID)).await?;
        // 409: it exists, and belongs to us or another user; HEAD would have found it if we had access.
        if answer.status().is_success() {
            changes.push(Change::made(format!("bucket `{name}` created")));
        } else {
            return Err(refusal(name, answer).await);
        }
    }
    Ok(changes)
}

/// The bucket under the store's root. `.` and `..` are resolved by every URL library and would address the store itself.
pub(super) fn bucket(port: u16, name: &str) -> Result<Bucket, ProvisionError> {
    let refused = |reason: String| ProvisionError::refused(format!("create the bucket `{name}`"), reason);
    if matches!(name, "" | "." | "..") {
        return Err(refused("that is no name of a bucket".to_owned()));
    }
    let store = format!("http://127.0.0.1:{port}").parse().map_err(|error: url::ParseError| refused(error.to_string()))?;
    Bucket::new(store, UrlStyle::Path, name.to_owned(), REGION).map_err(|error| refused(error.to_string()))
}

pub(super) async fn send(method: Method, url: url::Url) -> Result<Response, ProvisionError> {
    // Without the URL, which contains the signature.
    CLIENT.request(method, url).send().await.map_err(|error| ProvisionError::Unreachable { reason: error.without_url().to_string() })
}

async fn refusal(bucket: &str, answer: Response) -> ProvisionError {
    let status = answer.status();
    let body = limited::body(answer, 64 << 10).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let between = |tag: &str| Some(body.split_once(&format!("<{tag}>"))?.1.split_once(&format!("</{tag}>"))?.0.to_owned());
    let reason = match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => format!("it answered {status}"),
    };
    if status == StatusCode::FORBIDDEN {
        return ProvisionError::WrongPassword { service: "S3 store", user: "the access key".to_owned(), reason };
    }
    ProvisionError::refused(format!("create the bucket `{bucket}`"), reason)
}

#[cfg(test)]
mod tests {
    use rusty_s3::{Method, signing::sign};

    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        let path = |name: &str| bucket(1, name).map(|bucket| bucket.base_url().path().to_owned());
        assert_eq!(path("documents-1.x").unwrap(), "/documents-1.x/");
        assert_eq!(path("../a b?").unwrap(), "/..%2Fa%20b%3F/");
        for name in ["", ".", ".."] {
            assert!(path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_signature_is_that_of_the_example_in_amazons_documentation() {
        let signed = sign(
            &"2013-05-24T00:00:00Z".parse().unwrap(),
            Method::Get,
            "https://examplebucket.s3.amazonaws.com/test.txt".parse().unwrap(),
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            "us-east-1",
            86400,
            std::iter::empty(),
            std::iter::empty(),
        );
        assert!(signed.as_str().ends_with("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), "{signed}");
    }
}
