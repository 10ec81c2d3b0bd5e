//! `import`: replaces a service's data with data from a dump file or from a server.
//!
//! The existing data is backed up first, and that backup stays. The imported data is counted and compared with its source before it
//! is put in place.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use devenv_api::{ApiError, Compared, Content, ErrorCode, OperationKind, TransferRequest, Transferred};
use devenv_kinds::{
    backup::{compare, verified},
    capability::{Backups, RemoteSource, Restores, Staged, StagedRestore, Transfers, VolumeRestore},
    transfer::Address,
};
use devenv_spec::ServiceSpec;
use serde_json::{Value, json};

use super::{
    Context, Prepared, Work, backup,
    backup_restore::until_up,
    ready::Concerned,
    replacement::{Replacement, backup_error, site},
    transfer::{manifest, service, targets, transfers_of, unsupported},
    volume_files,
};
use crate::{
    environment::{Environment, Environments},
    error::{absolute, internal},
    net::Tunnel,
    operation_store::Step,
};

pub(super) fn prepare(environments: &Environments, request: TransferRequest) -> Result<Prepared, ApiError> {
    let environment = environments.require(&request.target)?;
    if Address::parse(&request.place).map_err(wrong)?.is_none() {
        absolute("`place`, if it is not a URL,", &request.place)?;
    }
    let body = async move |context: Context, environment: Environment| import(&context, &environment, &request).await;
    Ok(Prepared::in_environment(OperationKind::Import, &environment, Work::Replace, body))
}

/// The source of the data.
enum Source<'a> {
    File(PathBuf),
    Server(&'static dyn RemoteSource, &'a Address),
}

/// One import, after the request has been resolved.
struct Import<'a> {
    context: &'a Context,
    environment: &'a Environment,
    request: &'a TransferRequest,
    service: &'a ServiceSpec,
    transfers: &'static dyn Transfers,
}

async fn import(context: &Context, environment: &Environment, request: &TransferRequest) -> Result<Value, ApiError> {
    let began = Instant::now();
    context.follow(environment);
    let service = service(environment, &request.service).await?;
    let transfers = transfers_of(&service)?;
    let restores = backup::ability(&service).and_then(Backups::restores).ok_or_else(|| unsupported(&service))?;
    context.environments().refuse_halted(environment, service.name.as_str()).await?;
    let address = Address::parse(&request.place).map_err(wrong)?;
    let source = match &address {
        None => Source::File(PathBuf::from(&request.place)),
        Some(address) => Source::Server(remote(transfers, &service, address)?, address),
    };
    let import = Import { context, environment, request, service: &service, transfers };
    if let Source::File(place) = &source {
        crate::blocking::reachable(place).await?;
    }
    import.check(&source).await?;
    let (saved, remove) = backup::make(context, environment, std::slice::from_ref(&service.name)).await?;
    context.settle(&remove).await?;
    let saved = backup::finish(context, environment, saved);
    let databases = match (restores, &source) {
        (Restores::Staged(restore), Source::Server(remote, address)) => vec![import.copy_server(restore, *remote, address).await?],
        (Restores::Staged(restore), Source::File(place)) => import.copy_files(restore, place).await?,
        (Restores::Volume(restore), Source::File(file)) => vec![import.fill_volume(restore, file).await?],
        (Restores::Volume(_), Source::Server(..)) => return Err(unsupported(&service)),
    };
    Ok(json!(Transferred {
        service: service.name.to_string(),
        place: address.map_or_else(|| request.place.clone(), |address| address.shown()),
        verified: verified(&databases),
        databases,
        backup: Some(saved.id),
        elapsed_ms: began.elapsed().as_millis() as u64,
    }))
}

fn wrong(what: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Usage, format!("invalid URL: {what}"))
}

fn remote(transfers: &'static dyn Transfers, service: &ServiceSpec, address: &Address) -> Result<&'static dyn RemoteSource, ApiError> {
    let remote = transfers
        .remote()
        .map_err(|hint| ApiError::new(ErrorCode::Usage, format!("`{}` is imported from a dump file", service.name)).hint(hint))?;
    if !remote.is_scheme(&address.scheme) {
        return Err(wrong(format!("its scheme is `{}`, which is not one of this service's", address.scheme)));
    }
    remote.check(address).map_err(wrong)?;
    Ok(remote)
}

impl Import<'_> {
    /// The checks of files before anything is changed.
    async fn check(&self, source: &Source<'_>) -> Result<(), ApiError> {
        let Source::File(place) = source else { return Ok(()) };
        for (_, file) in self.targets(place)? {
            let transfers = self.transfers;
            let checked = devenv_files::read_in_time(vec![file.clone()], move || transfers.check(&file)).await;
            checked.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?.map_err(|(what, hint)| {
                let error = ApiError::new(ErrorCode::Usage, what);
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            })?;
        }
        Ok(())
    }

    fn targets(&self, place: &Path) -> Result<Vec<(Option<String>, PathBuf)>, ApiError> {
        targets(self.transfers, self.service, self.request.database.as_deref(), place, place.is_dir())
    }

    /// All databases are staged and compared before the first is put in place, and then all are swapped together.
    async fn copy_files(&self, restore: &'static dyn StagedRestore, place: &Path) -> Result<Vec<Compared>, ApiError> {
        let parts: Vec<Staged> = self.targets(place)?.into_iter().map(|(database, file)| Staged { database, file, own: false }).collect();
        let mut replacement = Replacement::begin(self.context, self.environment).await?;
        let arrived = replacement.stage(self.service, restore, &parts).await?;
        let compared = parts.iter().zip(arrived).map(|(part, arrived)| {
            // Our own manifest has row counts, which a dump does not.
            let source = manifest(&part.file).unwrap_or(arrived.promised);
            compare(part.database.as_deref().unwrap_or_default(), &source, &arrived.contents)
        });
        let compared: Vec<Compared> = compared.collect();
        put_in_place(replacement, &compared).await?;
        Ok(compared)
    }

    async fn copy_server(
        &self,
        restore: &'static dyn StagedRestore,
        remote: &dyn RemoteSource,
        address: &Address,
    ) -> Result<Compared, ApiError> {
        let (context, environment) = (self.context, self.environment);
        let known = self.transfers.databases(self.service);
        let database = self.request.database.clone().or_else(|| known.first().cloned()).unwrap_or_default();
        let record = environment.handle.record().await?;
        let without_network = || ApiError::new(ErrorCode::Internal, "the environment has no network");
        let subnet = record.subnet.ok_or_else(without_network)?;
        let gateway = subnet.hosts().next().ok_or_else(without_network)?;
        // The tools are in a container, which cannot reach servers on this host's loopback.
        let instance = environment.instance(&self.service.name)?;
        let site = site(context.environments(), environment, self.service, &instance.id);
        let attached =
            site.engine.attachments(site.container).await.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
        let peer = attached.into_iter().map(|attachment| attachment.address).find(|address| subnet.contains(address)).ok_or_else(|| {
            let message = format!("the container of `{}` has no address in the environment's network", self.service.name);
            ApiError::new(ErrorCode::Failed, message).hint(format!("run `devenv restart {}`, then import again", self.service.name))
        })?;
        let tunnel = Tunnel::open(gateway.into(), peer.into(), &address.host, address.port.unwrap_or_else(|| remote.port()))
            .await
            .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot reach {}: {error}", address.shown())))?;
        let file = context.environments().store().environment(&environment.id).join(format!("incoming-{}", context.id()));
        let remove = [Step::RemovePath { path: file.clone() }];
        context.owe(remove.to_vec()).await?;
        context.message(format!("copying {}", address.shown()));
        let fetched = context.unless_cancelled(remote.fetch(&site, address, (gateway.to_string(), tunnel.port()), &file)).await?;
        let before = fetched.map_err(|error| ApiError::new(ErrorCode::Failed, address.redact(&backup_error(&error).message)))?;
        drop(tunnel);
        let part = Staged { database: Some(database.clone()), file: file.clone(), own: false };
        let mut replacement = Replacement::begin(context, environment).await?;
        let arrived = replacement.stage(self.service, restore, std::slice::from_ref(&part)).await?;
        let theirs = remote.database(address);
        let named: Vec<Content> =
            before.into_iter().map(|content| Content { name: content.name.replacen(&theirs, &database, 1), ..content }).collect();
        let contents: Vec<Content> = arrived.into_iter().flat_map(|arrived| arrived.contents).collect();
        let compared = compare(&database, &named, &contents);
        // What follows cannot be undone, so this comes before it.
        tokio::fs::remove_file(&file).await.map_err(internal)?;
        context.settle(&remove).await?;
        put_in_place(replacement, std::slice::from_ref(&compared)).await?;
        Ok(compared)
    }

    /// The service starts again on a new volume that holds only the dump.
    async fn fill_volume(&self, restore: &dyn VolumeRestore, file: &Path) -> Result<Compared, ApiError> {
        let (context, environment) = (self.context, self.environment);
        let record = environment.handle.record().await?;
        let concerned = Concerned::of(environment, std::slice::from_ref(&self.service.name));
        let mut replacement = Replacement::begin(context, environment).await?;
        let (held, volume) = replacement.new_volume(&self.service.name).await?;
        volume_files::put_dump(context, &record, &held, &volume, (restore.file(), file)).await?;
        if let Some(revision) = replacement.put_in_place("import").await? {
            until_up(context, &concerned, revision).await?;
        }
        let instance = environment.instance(&self.service.name)?;
        let site = site(context.environments(), environment, self.service, &instance.id);
        let after = restore.contents(&site).await.map_err(|error| backup_error(&error))?;
        let before = manifest(file).unwrap_or_else(|| after.clone());
        Ok(compare(self.service.name.as_str(), &before, &after))
    }
}

async fn put_in_place(replacement: Replacement<'_>, compared: &[Compared]) -> Result<(), ApiError> {
    let differences: Vec<&str> = compared.iter().flat_map(|one| &one.differences).map(String::as_str).collect();
    if !differences.is_empty() {
        let message = format!("the imported data differs from its source: {}", differences.join("; "));
        return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"));
    }
    replacement.put_in_place("import").await.map(drop)
}
