//! Files into a container, as a tar that the engine extracts at `/`.
//!
//! The tar holds files only. The engine creates missing directories (root, 0755) and leaves existing ones
//! as they are; an entry for a directory would reset the owner and mode of one such as `/etc`. Where a stopped container
//! has a memory file system mounted, there is nothing yet to write to.

use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::Bytes;

use super::client::Client;
use crate::{EngineError, UploadFile};

pub(super) async fn upload(client: &Client, id: &str, files: &[UploadFile]) -> Result<(), EngineError> {
    if files.is_empty() {
        return Ok(());
    }
    let action = format!("write {} into the container", named(files));
    let archive = archive(files).map_err(|error| EngineError::Protocol { action: action.clone(), message: error.to_string() })?;
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    client.docker.upload_to_container(id, Some(options), bollard::body_full(archive)).await.map_err(client.explain(&action))
}

fn named(files: &[UploadFile]) -> String {
    files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ")
}

fn archive(files: &[UploadFile]) -> std::io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(file.mode);
        header.set_uid(u64::from(file.uid));
        header.set_gid(u64::from(file.gid));
        header.set_size(file.content.len() as u64);
        header.set_mtime(1);
        builder.append_data(&mut header, file.path.trim_start_matches('/'), file.content.as_ref())?;
    }
    builder.into_inner().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_files_and_no_directories() {
        let file = UploadFile { path: "/etc/devenv/a/redis.conf".into(), mode: 0o600, uid: 999, gid: 998, content: "x 1".into() };
        let bytes = archive(&[file]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_ref());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap())
            })
            .collect();
        assert_eq!(entries, [("etc/devenv/a/redis.conf".to_owned(), 0o600, 999, 998)]);
    }
}
