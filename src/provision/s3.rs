//! Buckets, by requests that are signed here: two verbs are all that is needed.

use std::sync::LazyLock;

use jiff::{Timestamp, tz::TimeZone};
use reqwest::{Client, Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::{
    Change, ProvisionContext, ProvisionError,
    hmac::{hex, sign},
};
use crate::spec::S3Provision;

/// Any region signs; this one is what such stores and clients assume.
const REGION: &str = "us-east-1";

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("these options need nothing of the system"));

struct Store {
    host: String,
    access_key: String,
    secret_key: String,
}

pub(super) async fn apply(wanted: &S3Provision, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    let store = Store {
        host: format!("127.0.0.1:{}", wanted.port),
        access_key: cx.vault.reveal(&wanted.access_key)?,
        secret_key: cx.vault.reveal(&wanted.secret_key)?,
    };
    let mut changes = Vec::new();
    for bucket in &wanted.buckets {
        if store.send(Method::HEAD, bucket).await?.status().is_success() {
            continue;
        }
        let answer = store.send(Method::PUT, bucket).await?;
        // 409: it is there, for us or for somebody else; a HEAD would have said so if it were ours to see.
        if answer.status().is_success() {
            changes.push(Change::made(format!("bucket `{bucket}` created")));
        } else {
            return Err(refusal(bucket, answer).await);
        }
    }
    Ok(changes)
}

impl Store {
    async fn send(&self, method: Method, bucket: &str) -> Result<Response, ProvisionError> {
        let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let path = format!("/{}", encode(bucket));
        let nothing = hex(&Sha256::digest(b""));
        let authorization = self.authorization(method.as_str(), &path, &now, &nothing);
        CLIENT
            .request(method, format!("http://{}{path}", self.host))
            .header("x-amz-content-sha256", nothing)
            .header("x-amz-date", now)
            .header("authorization", authorization)
            .send()
            .await
            .map_err(|error| ProvisionError::Unreachable { reason: error.to_string() })
    }

    /// AWS Signature Version 4 of a request without query and body.
    fn authorization(&self, method: &str, path: &str, now: &str, body: &str) -> String {
        const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";
        let request = format!("{method}\n{path}\n\nhost:{}\nx-amz-content-sha256:{body}\nx-amz-date:{now}\n\n{SIGNED}\n{body}", self.host);
        let day = &now[..8];
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(request)));
        let first = format!("AWS4{}", self.secret_key).into_bytes();
        let key = [day, REGION, "s3", "aws4_request"].iter().fold(first, |key, part| sign(&key, part.as_bytes()).to_vec());
        let signature = hex(&sign(&key, text.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}", self.access_key)
    }
}

async fn refusal(bucket: &str, answer: Response) -> ProvisionError {
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
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

fn encode(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    path
}

fn digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(encode("documents-1.x"), "documents-1.x");
        assert_eq!(encode("../a b?"), "..%2Fa%20b%3F");
    }
}
