//! S3: the objects of the declared buckets, and the beginning of one. Only requests that read.

use async_trait::async_trait;
use devenv_api::{DataGroup, DataGroupKind, DataItem, DataItemKind, Rows};
use devenv_spec::ServiceSpec;
use jiff::Timestamp;
use reqwest::{Method, Response, StatusCode, header};
use rusty_s3::{Bucket, Credentials, Method as SignedMethod, S3Action, signing::sign};
use url::Url;

use super::{
    NAME, S3Kind,
    provision::{VALID, bucket, send},
    spec::S3Provision,
};
use crate::{
    browse::{LONGEST_VALUE, paged},
    capability::{Browse, BrowseError, ProvisionContext, RowsPage},
    limited,
};

/// The most that is read of a list of objects, in bytes.
const LARGEST_LIST: usize = 4 << 20;

#[async_trait]
impl Browse for S3Kind {
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError> {
        let (store, credentials) = found(service, cx)?;
        let mut groups = Vec::new();
        for name in &store.buckets {
            let list = bucket(store.port, name)?;
            let answer = answered(send(Method::GET, listing(&list, &credentials)).await?, name).await?;
            let body = limited::body(answer, LARGEST_LIST).await.map_err(|error| BrowseError::Refused(error.without_url().to_string()))?;
            let (mut items, more) = objects(&String::from_utf8_lossy(&body));
            items.retain(|item| filter.is_none_or(|text| item.name.contains(text)));
            groups.push(DataGroup { name: name.clone(), kind: DataGroupKind::Buckets, items, more });
        }
        Ok(groups)
    }

    /// What is known of the object, and its beginning.
    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let (store, credentials) = found(service, cx)?;
        let within = bucket(store.port, &page.group)?;
        let what = format!("{}/{}", page.group, page.item);
        // Every URL library resolves these, which would lead out of the bucket.
        if page.item.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(BrowseError::NotFound(format!("the store has no `{what}`")));
        }
        let answer = answered(send(Method::GET, within.get_object(Some(&credentials), &page.item).sign(VALID)).await?, &what).await?;
        let known = [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::LAST_MODIFIED, header::ETAG].into_iter().filter_map(|name| {
            let value = answer.headers().get(&name)?.to_str().ok()?.to_owned();
            Some(vec![Some(name.to_string()), Some(value)])
        });
        let mut rows: Vec<_> = known.collect();
        // One byte more, so that what is cut is known to be cut.
        let start =
            limited::body(answer, LONGEST_VALUE + 1).await.map_err(|error| BrowseError::Refused(error.without_url().to_string()))?;
        rows.push(vec![Some("content".to_owned()), Some(String::from_utf8_lossy(&start).into_owned())]);
        Ok(paged(&["property", "value"], rows, page, false))
    }
}

fn found(service: &ServiceSpec, cx: &ProvisionContext) -> Result<(S3Provision, Credentials), BrowseError> {
    let declared = service.provision.iter().find(|provision| provision.kind == NAME);
    let store: S3Provision = declared
        .and_then(|declared| declared.decode().ok())
        .ok_or_else(|| BrowseError::Refused(format!("devenv has no keys of `{}`", service.name)))?;
    let credentials = Credentials::new(cx.vault.reveal(&store.access_key)?, cx.vault.reveal(&store.secret_key)?);
    Ok((store, credentials))
}

/// A signed request for the first thousand objects. It does not ask for percent-encoded keys: some stores say that they do that, and do
/// not.
fn listing(bucket: &Bucket, credentials: &Credentials) -> Url {
    let words = [("list-type", "2"), ("max-keys", "1000")];
    sign(
        &Timestamp::now(),
        SignedMethod::Get,
        bucket.base_url().clone(),
        credentials.key(),
        credentials.secret(),
        None,
        bucket.region(),
        VALID.as_secs(),
        words.into_iter(),
        std::iter::empty(),
    )
}

async fn answered(answer: Response, what: &str) -> Result<Response, BrowseError> {
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND => Err(BrowseError::NotFound(format!("the store has no `{what}`"))),
        status => Err(BrowseError::Refused(format!("the store answers {status} for `{what}`"))),
    }
}

/// The objects of a list, and whether there are more.
fn objects(xml: &str) -> (Vec<DataItem>, bool) {
    let text = |part: &str, tag: &str| {
        let (_, rest) = part.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    let items = xml.split("<Contents>").skip(1).filter_map(|part| {
        let key = text(part, "Key")?;
        Some(DataItem {
            name: unescaped(&key),
            kind: DataItemKind::Object,
            rows: None,
            bytes: text(part, "Size").and_then(|size| size.parse().ok()),
            detail: text(part, "LastModified"),
        })
    });
    (items.collect(), text(xml, "IsTruncated").as_deref() == Some("true"))
}

fn unescaped(key: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")]
        .iter()
        .fold(key.to_owned(), |key, (escape, character)| key.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_objects_is_read_with_the_names_as_they_are() {
        let xml = "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/b+ &amp;&lt;c%20</Key><Size>12</Size>\
                   <LastModified>2026-01-01T00:00:00Z</LastModified></Contents><Contents><Key>plain</Key></Contents></ListBucketResult>";
        let (items, more) = objects(xml);
        let found: Vec<_> = items.iter().map(|item| (item.name.as_str(), item.bytes)).collect();
        assert_eq!((found, more), (vec![("a/b+ &<c%20", Some(12)), ("plain", None)], true));
        assert_eq!(objects("<Contents><Key>&amp;lt;</Key></Contents>").0[0].name, "&lt;");
        assert_eq!(objects("<html>"), (Vec::new(), false));
    }
}
