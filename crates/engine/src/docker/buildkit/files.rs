//! Sends the files of a build: first their list, then those that the engine asks for because its cache does not have them.

use std::{
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::PathBuf,
    time::SystemTime,
};

use http::HeaderMap;
use tokio::io::AsyncReadExt;

use super::{
    grpc::{Incoming, Outgoing},
    protobuf::{Message, fields},
    session::Offer,
};
use crate::build::Entry;

const PIECE: usize = 32 << 10;
// The types of packets.
const STAT: u64 = 0;
const REQUEST: u64 = 1;
const DATA: u64 = 2;
const FINISH: u64 = 3;
const ERROR: u64 = 4;
// File modes in Go's encoding.
const DIRECTORY: u64 = 1 << 31;
const LINK: u64 = 1 << 27;
const SPECIAL: [(u32, u64); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// Where the content of a listed file is.
enum Content {
    Text(Vec<u8>),
    File(PathBuf),
    None,
}

pub(super) async fn send(headers: &HeaderMap, incoming: &mut Incoming, outgoing: &mut Outgoing, offer: &Offer) -> io::Result<()> {
    let mut contents = Vec::new();
    for (stat, content) in listed(headers, offer)? {
        outgoing.send(&Message::default().number(1, STAT).message(2, &stat.0).0).await?;
        contents.push(content);
    }
    // A packet without a file ends the list.
    outgoing.send(&[]).await?;
    while let Some(message) = incoming.message().await? {
        let (mut kind, mut id, mut said) = (STAT, 0, String::new());
        for (field, value) in fields(&message) {
            match field {
                1 => kind = value.number(),
                3 => id = value.number(),
                4 => said = value.text(),
                _ => {}
            }
        }
        match kind {
            REQUEST => {
                let content = usize::try_from(id).ok().and_then(|id| contents.get(id));
                send_content(id, content.unwrap_or(&Content::None), outgoing).await?;
            }
            FINISH => return outgoing.send(&Message::default().number(1, FINISH).0).await,
            ERROR => return Err(io::Error::other(said)),
            _ => {}
        }
    }
    Ok(())
}

async fn send_content(id: u64, content: &Content, outgoing: &mut Outgoing) -> io::Result<()> {
    let packet = |data: &[u8]| Message::default().number(1, DATA).number(3, id).bytes(4, data).0;
    match content {
        Content::Text(text) => {
            for piece in text.chunks(PIECE) {
                outgoing.send(&packet(piece)).await?;
            }
        }
        Content::File(path) => {
            let (mut file, _) = devenv_files::TimedFile::open(path).await?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = file.read(&mut piece).await?;
                if read == 0 {
                    break;
                }
                outgoing.send(&packet(&piece[..read])).await?;
            }
        }
        Content::None => {}
    }
    outgoing.send(&packet(&[])).await
}

/// What the name that the engine asks for refers to: the Dockerfile, or the context.
fn listed(headers: &HeaderMap, offer: &Offer) -> io::Result<Vec<(Message, Content)>> {
    let name = headers.get("dir-name").and_then(|name| name.to_str().ok()).unwrap_or("context");
    match name {
        "dockerfile" => {
            // The engine reuses files that it received earlier with the same size and time.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
            let stat = stat(b"Dockerfile", 0o644, offer.dockerfile.len() as u64, now, &[]);
            Ok(vec![(stat, Content::Text(offer.dockerfile.clone()))])
        }
        "context" => {
            // Requested only to learn which files are ignored; those have been left out already.
            let wanted: Vec<&[u8]> = headers.get_all("followpaths").iter().map(http::HeaderValue::as_bytes).collect();
            if wanted == [b".dockerignore"] {
                return Ok(Vec::new());
            }
            offer.context.entries.iter().filter_map(|entry| listed_entry(entry, offer).transpose()).collect()
        }
        other => Err(io::Error::other(format!("no local directory `{other}`"))),
    }
}

/// `None` for sockets and other types that no image holds.
fn listed_entry(entry: &Entry, offer: &Offer) -> io::Result<Option<(Message, Content)>> {
    let metadata = &entry.metadata;
    let full = offer.context.root.join(&entry.path);
    let mut mode = u64::from(metadata.mode() & 0o777);
    mode |= SPECIAL.iter().filter(|(bit, _)| metadata.mode() & bit != 0).map(|(_, bit)| bit).sum::<u64>();
    let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()).max(0) as u64;
    let path = entry.path.as_os_str().as_bytes();
    Ok(if metadata.is_dir() {
        Some((stat(path, mode | DIRECTORY, 0, modified, &[]), Content::None))
    } else if metadata.is_symlink() {
        let target = std::fs::read_link(&full)?;
        Some((stat(path, mode | LINK, 0, modified, target.as_os_str().as_bytes()), Content::None))
    } else if metadata.is_file() {
        Some((stat(path, mode, metadata.len(), modified, &[]), Content::File(full)))
    } else {
        None
    })
}

/// Owned by root: the same context gives the same layers for all users.
fn stat(path: &[u8], mode: u64, size: u64, modified: u64, link: &[u8]) -> Message {
    Message::default().bytes(1, path).number(2, mode).number(5, size).number(6, modified).bytes(7, link)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::build::BuildContext;

    #[test]
    fn the_context_is_listed_with_links_and_modes_and_the_dockerfile_beside_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::write(root.join("Dockerfile"), "FROM a").unwrap();
        std::fs::write(root.join(".dockerignore"), "Dockerfile\n").unwrap();
        std::fs::create_dir(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/run"), "x").unwrap();
        std::fs::set_permissions(root.join("bin/run"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::symlink("bin/run", root.join("link")).unwrap();
        let context = BuildContext::read(&devenv_spec::ImageBuild::new(root.to_owned(), "x")).unwrap();
        let offer = Offer { context, dockerfile: b"FROM b".to_vec(), secrets: BTreeMap::new(), ssh: BTreeMap::new() };
        let sent = |name: &'static str, followed: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert("dir-name", name.parse().unwrap());
            for path in followed {
                headers.append("followpaths", path.parse().unwrap());
            }
            let describe = |(stat, _): (Message, Content)| {
                let mut text = String::new();
                for (field, value) in fields(&stat.0) {
                    match field {
                        1 | 7 => text.push_str(&format!("{} ", value.text())),
                        2 => text.push_str(&format!("{:o} ", value.number())),
                        _ => {}
                    }
                }
                text.trim().to_owned()
            };
            listed(&headers, &offer).unwrap().into_iter().map(describe).collect::<Vec<_>>()
        };
        assert_eq!(sent("dockerfile", &["Dockerfile"]), ["Dockerfile 644"]);
        assert!(sent("context", &[".dockerignore"]).is_empty());
        let context = sent("context", &["bin"]);
        assert_eq!(context[0], ".dockerignore 644");
        assert!(context[1].starts_with("bin 2000"), "{context:?}");
        assert_eq!((context[2].as_str(), context[3].as_str()), ("bin/run 40000750", "link 1000000777 bin/run"));
    }
}
