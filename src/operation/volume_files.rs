//! Moves files between volumes and this host: into backups, out of them, and dumps that a server reads when it
//! starts.
//!
//! If the engine's volumes are this host's own files and this process is root, they are copied with all attributes.
//! Otherwise a helper container packs and unpacks them, in the service's own image: without root, and with an engine on
//! another machine. In that case extended attributes are kept only if the image has GNU tar.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::{CreatedMount, ExecStream, HelperRun, Labels};
use devenv_snapshots::{copy_tree, is_ours};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::{
    Context,
    copy::{Held, image_of},
};
use crate::{
    error::{internal, no_engine},
    reconcile::labels,
    store::Record,
};

/// The size of one chunk.
const PIECE: usize = 256 << 10;

const TAR: &str = r#"set -ef; cd /volume; options=; case "$(tar --version 2>/dev/null)" in *GNU*) options='--xattrs --xattrs-include=* --numeric-owner';; esac"#;

/// The volume gets the owner of the one that it replaces.
const DUMP: &str =
    r#"set -e; owner=$(stat -c %u:%g /former); cat > "/volume/$0"; chmod 600 "/volume/$0"; chown "$owner" /volume "/volume/$0"; sync"#;

/// Writes all files of a volume below `directory`: into the directory `name`, or into the archive whose name is returned.
/// Nothing may write to the volume meanwhile.
pub(super) async fn save(context: &Context, record: &Record, held: &Held, directory: &Path, name: &str) -> Result<String, ApiError> {
    let from = mountpoint(context, &held.volume).await?;
    if is_ours(&from) {
        let to = directory.join(name);
        let copied = tokio::task::spawn_blocking(move || fs::create_dir(&to).and_then(|()| copy_tree(&from, &to)));
        copied.await.map_err(internal)?.map_err(internal)?;
        return Ok(name.to_owned());
    }
    let archive = format!("{name}.tar");
    let mounts = vec![CreatedMount::Volume { name: held.volume.clone(), target: "/volume".to_owned(), read_only: true }];
    let helper = helper(context, record, held, vec![format!("{TAR}; exec tar $options -cf - .")], mounts);
    receive(context, &helper, &directory.join(&archive)).await?;
    Ok(archive)
}

/// Fills an empty volume with the files that [`save`] has written.
pub(super) async fn restore(context: &Context, record: &Record, held: &Held, volume: &str, source: &Path) -> Result<(), ApiError> {
    let (from, to) = (source.to_owned(), mountpoint(context, volume).await?);
    if from.is_dir() && is_ours(&to) {
        let copied = tokio::task::spawn_blocking(move || copy_tree(&from, &to));
        return copied.await.map_err(internal)?.map(drop).map_err(internal);
    }
    let mounts = vec![CreatedMount::Volume { name: volume.to_owned(), target: "/volume".to_owned(), read_only: false }];
    let helper = helper(context, record, held, vec![format!("{TAR}; tar $options -xpf -; sync")], mounts);
    if from.is_dir() {
        let (archive, packing) = packed(from).map_err(internal)?;
        send(context, &helper, archive).await?;
        return packing.await.map_err(internal)?.map_err(internal);
    }
    send(context, &helper, tokio::fs::File::open(&from).await.map_err(internal)?).await
}

/// Puts a dump, owned by the server's user, into an empty volume as its only file.
pub(super) async fn put_dump(
    context: &Context,
    record: &Record,
    held: &Held,
    volume: &str,
    (name, dump): (&str, &Path),
) -> Result<(), ApiError> {
    let (former, to) = (mountpoint(context, &held.volume).await?, mountpoint(context, volume).await?);
    if is_ours(&former) && is_ours(&to) {
        let (source, file) = (dump.to_owned(), to.join(name));
        let copied = devenv_files::read_in_time(Vec::new(), move || {
            use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
            let owner = fs::metadata(&former)?;
            let mut target = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file)?;
            io::copy(&mut devenv_files::open_regular(&source)?, &mut target)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            chown(&file, Some(owner.uid()), Some(owner.gid()))?;
            chown(&to, Some(owner.uid()), Some(owner.gid()))?;
            fs::File::open(&file)?.sync_all()
        });
        return copied.await.map_err(internal)?.map_err(internal);
    }
    let mount =
        |volume: &str, target: &str, read_only| CreatedMount::Volume { name: volume.to_owned(), target: target.to_owned(), read_only };
    let mounts = vec![mount(&held.volume, "/former", true), mount(volume, "/volume", false)];
    let helper = helper(context, record, held, vec![DUMP.to_owned(), name.to_owned()], mounts);
    send(context, &helper, devenv_files::TimedFile::open(dump).await.map_err(internal)?.0).await
}

async fn mountpoint(context: &Context, volume: &str) -> Result<PathBuf, ApiError> {
    let found = context.environments().engine().volume(volume).await.map_err(|error| no_engine(&error))?;
    Ok(found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("volume {volume} does not exist")))?.mountpoint)
}

fn helper(context: &Context, record: &Record, held: &Held, script: Vec<String>, mounts: Vec<CreatedMount>) -> HelperRun {
    let labels = labels(context.environments().owner(), record, Some(&held.spec));
    HelperRun {
        labels: Labels { role: Some("helper".to_owned()), spec: None, ..labels },
        image: image_of(&held.spec).to_owned(),
        command: ["sh", "-c"].map(str::to_owned).into_iter().chain(script).collect(),
        mounts,
        user: Some("0:0".to_owned()),
        network: None,
    }
}

/// Writes a helper's output to a file.
async fn receive(context: &Context, helper: &HelperRun, file: &Path) -> Result<(), ApiError> {
    let mut session = context.environments().engine().helper_session(helper).await.map_err(|error| no_engine(&error))?;
    session.input.shutdown().await.map_err(internal)?;
    let mut target = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).await.map_err(internal)?;
    let mut said = Vec::new();
    while let Some(piece) = session.output.next().await {
        context.check()?;
        match piece.map_err(|error| no_engine(&error))? {
            (ExecStream::Stdout, content) => target.write_all(&content).await.map_err(internal)?,
            (ExecStream::Stderr, content) => said.extend_from_slice(&content),
        }
    }
    target.sync_all().await.map_err(internal)?;
    let code = session.exit_code.await.map_err(|error| no_engine(&error))?;
    if code == 0 { Ok(()) } else { Err(failed("read", &said)) }
}

/// Passes a helper its input, and waits for its end: while it runs, its volumes cannot be removed.
async fn send(context: &Context, helper: &HelperRun, mut source: impl AsyncRead + Unpin) -> Result<(), ApiError> {
    let session = context.environments().engine().helper_session(helper).await.map_err(|error| no_engine(&error))?;
    let (mut input, mut output) = (session.input, session.output);
    let feed = async {
        let mut buffer = vec![0; PIECE];
        let fed = loop {
            let read = match context.check() {
                Ok(()) => source.read(&mut buffer).await.map_err(internal),
                Err(cancelled) => Err(cancelled),
            };
            match read {
                Ok(0) => break Ok(()),
                // A helper that stops reading reports why in its output.
                Ok(count) if input.write_all(&buffer[..count]).await.is_err() => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        let _ = input.shutdown().await;
        fed
    };
    let listen = async {
        let mut said = Vec::new();
        while let Some(piece) = output.next().await {
            said.extend_from_slice(&piece?.1);
        }
        Ok(said)
    };
    let (fed, said) = tokio::join!(feed, listen);
    let code = session.exit_code.await.map_err(|error| no_engine(&error))?;
    fed?;
    let said = said.map_err(|error| no_engine(&error))?;
    if code == 0 { Ok(()) } else { Err(failed("fill", &said)) }
}

fn failed(action: &str, said: &[u8]) -> ApiError {
    let said = String::from_utf8_lossy(said).trim().to_owned();
    ApiError::new(ErrorCode::Failed, format!("cannot {action} a volume in a container: {said}"))
}

/// An archive of a directory as a stream, and whether all of it could be read.
fn packed(directory: PathBuf) -> io::Result<(tokio::fs::File, JoinHandle<io::Result<()>>)> {
    let (reader, writer) = io::pipe()?;
    let packing = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(writer);
        archive.follow_symlinks(false);
        archive.append_dir_all(".", &directory)?;
        archive.finish()
    });
    Ok((tokio::fs::File::from_std(fs::File::from(OwnedFd::from(reader))), packing))
}
