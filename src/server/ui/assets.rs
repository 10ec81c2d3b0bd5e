//! The files of the page, from `ui/` of the checkout: in the program, compressed once; a debug build reads them from the checkout.

use std::{
    collections::HashMap,
    io::Write,
    sync::{LazyLock, Mutex},
};

use axum::{
    body::Bytes,
    extract::Request,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

#[derive(Embed)]
#[folder = "ui/"]
struct Files;

const DOCUMENT: &str = "index.html";
/// What begins the script in the document.
const SCRIPT: &str = "<script type=\"module\">";

/// Compressed files by the digest of their text.
static COMPRESSED: LazyLock<Mutex<HashMap<[u8; 32], Bytes>>> = LazyLock::new(Mutex::default);

pub(super) async fn serve(request: Request) -> Response {
    let path = match request.uri().path() {
        "/" => DOCUMENT,
        path => path.trim_start_matches('/'),
    };
    if request.method() != Method::GET {
        return StatusCode::NOT_FOUND.into_response();
    }
    let (Some(kind), Some(file)) = (kind_of(path), Files::get(path)) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let digest = file.metadata.sha256_hash();
    let tag = format!("\"{}\"", hex::encode(&digest[..12]));
    // The browser asks each time, and gets the text again only when it has changed.
    let head = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned()), (header::VARY, "accept-encoding".to_owned())];
    if request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let takes_gzip =
        request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"));
    let kind = [(header::CONTENT_TYPE, kind)];
    if !takes_gzip {
        return (head, kind, file.data.into_owned()).into_response();
    }
    (head, kind, [(header::CONTENT_ENCODING, "gzip")], compressed(digest, &file.data)).into_response()
}

/// The digest of the script in the document, as a content security policy names it.
pub(super) fn digest_of_script() -> String {
    let document = Files::get(DOCUMENT).map(|file| String::from_utf8_lossy(&file.data).into_owned()).unwrap_or_default();
    let script = document.split_once(SCRIPT).and_then(|(_, rest)| rest.split_once("</script>")).map_or("", |(script, _)| script);
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
}

fn compressed(digest: [u8; 32], text: &[u8]) -> Bytes {
    let mut known = COMPRESSED.lock().expect("no code panics while it holds this lock");
    let make = || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory cannot fail.
        let written = encoder.write_all(text).and_then(|()| encoder.finish());
        Bytes::from(written.unwrap_or_default())
    };
    known.entry(digest).or_insert_with(make).clone()
}

/// Only files of these kinds are served.
fn kind_of(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small() {
        let sizes: Vec<usize> = Files::iter()
            .filter(|path| kind_of(path).is_some())
            .filter_map(|path| Files::get(&path))
            .map(|file| compressed(file.metadata.sha256_hash(), &file.data).len())
            .collect();
        let total: usize = sizes.iter().sum();
        assert!(sizes.len() > 5 && total < 300_000, "{} files of {total} bytes", sizes.len());
    }

    #[test]
    fn the_document_has_one_script_which_its_policy_names_and_no_style() {
        let document = Files::get("index.html").unwrap().data.into_owned();
        let document = String::from_utf8(document).unwrap();
        let (before, rest) = document.split_once(SCRIPT).unwrap();
        let (script, after) = rest.split_once("</script>").unwrap();
        for part in [before, after] {
            assert!(!["<script", "<style", "style=", " on"].iter().any(|word| part.contains(word)), "{part}");
        }
        assert!(!script.contains("</"), "{script}");
        assert_eq!(digest_of_script(), format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script))));
    }
}
