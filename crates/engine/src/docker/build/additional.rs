//! Images in place of additional contexts: a directory's files are imported as an image, which is removed after the build.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use devenv_spec::ImageBuild;

use super::{INLINE, LEFT_BEHIND, Lines, failed, images, sessionless, then_untag, with_cause};
use crate::{
    EngineError,
    build::{AdditionalContext, AdditionalFiles, BuildContext, with_images},
    docker::client::Client,
};

/// The files of one additional context, in bytes: they are in memory while they are sent.
const LARGEST: u64 = 512 << 20;

#[derive(Debug, Clone, Default)]
pub(super) struct AdditionalImages {
    /// By the names of the contexts.
    images: BTreeMap<String, String>,
    /// Those that hold the files of a directory.
    made: Vec<String>,
}

impl AdditionalImages {
    /// An image for each additional context of a build; none for most builds.
    pub(super) async fn make(client: &Client, build: &ImageBuild, context: &BuildContext) -> Result<Self, EngineError> {
        let mut found = Self::default();
        if context.additional.is_empty() && build.options.contexts.is_empty() {
            return Ok(found);
        }
        images::untag_older(client, INLINE, LEFT_BEHIND).await;
        for (name, value) in &build.options.contexts {
            let image = match (AdditionalContext::parse(value), context.additional.get(name)) {
                (Some(AdditionalContext::Image(image)), _) => image.to_owned(),
                (Some(AdditionalContext::Directory(_)), Some(files)) => {
                    let image = format!("{INLINE}:{}", hex::encode(rand::random::<[u8; 8]>()));
                    let imported = match archive(files) {
                        Ok(tree) => images::import(client, &image, tree).await,
                        Err(error) => Err(failed(build, format!("the additional context `{name}` cannot be read: {}", with_cause(&error)))),
                    };
                    if let Err(error) = imported {
                        for image in &found.made {
                            // It is removed with those that are left behind, if not now.
                            let _ = images::untag(client, image).await;
                        }
                        return Err(error);
                    }
                    found.made.push(image.clone());
                    image
                }
                _ => {
                    let message =
                        format!("the additional context `{name}` is neither a directory nor `docker-image://NAME`, but `{value}`");
                    return Err(failed(build, message));
                }
            };
            found.images.insert(name.clone(), image);
        }
        Ok(found)
    }

    pub(super) fn in_dockerfile(&self, dockerfile: &[u8]) -> Vec<u8> {
        if self.images.is_empty() {
            return dockerfile.to_vec();
        }
        with_images(&String::from_utf8_lossy(dockerfile), &self.images).into_bytes()
    }

    /// Removes the images with files when the build has ended.
    pub(super) async fn then_untag(self, client: Client, mut lines: Result<Lines, EngineError>) -> Result<Lines, EngineError> {
        for image in self.made {
            lines = then_untag(client.clone(), image, lines).await;
        }
        lines
    }
}

fn archive(files: &AdditionalFiles) -> io::Result<Bytes> {
    let size: u64 = files.entries.iter().filter(|entry| entry.metadata.is_file()).map(|entry| entry.metadata.len()).sum();
    if size > LARGEST {
        return Err(io::Error::other(format!(
            "its files have {size} bytes, more than the limit of {LARGEST}; list what is not needed in its .dockerignore"
        )));
    }
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    sessionless::append(&mut builder, &files.root, &files.entries)?;
    Ok(builder.into_inner()?.into())
}
