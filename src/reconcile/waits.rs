//! Waits for what an environment becomes, each of which ends: when it is there, when it cannot come any more, or when nothing has been
//! in progress for too long. Commands wait here; nothing is changed.

use std::time::Duration;

use devenv_api::Phase;
use devenv_spec::ServiceName;
use tokio::time::Instant;

use super::{
    handle::{CommandError, ENGINE_SILENT, Handle, QUIET},
    view::View,
};
use crate::store::Goal;

impl Handle {
    /// Waits until a view at or after `revision` satisfies `reached`. Cancel-safe.
    async fn until<T>(&self, revision: u64, mut reached: impl FnMut(&View) -> Option<T>) -> Result<T, CommandError> {
        let mut views = self.view.clone();
        loop {
            {
                let view = views.borrow_and_update();
                if view.revision >= revision
                    && let Some(found) = reached(&view)
                {
                    return Ok(found);
                }
            }
            views.changed().await.map_err(|_| CommandError::Ended)?;
        }
    }

    /// Waits until the named services (all, if none is named) are as requested or cannot get there; the view contains the failures.
    pub(crate) async fn until_up(&self, revision: u64, names: &[ServiceName]) -> Result<View, CommandError> {
        self.until_or_quiet(revision, |view| {
            let given_up = view.stuck.is_some() || view.failures_of(names).next().is_some() || view.blocked_of(names).next().is_some();
            let are_over = if names.is_empty() { view.all_settled() } else { names.iter().all(|name| view.is_over(name.as_str())) };
            // They were over when the engine last answered; the next view may differ.
            let unknown = view.status.services.iter().any(|service| service.state == devenv_api::ServiceState::Unreachable);
            view.goal != Goal::Up || given_up || (are_over && !unknown)
        })
        .await
    }

    /// As [`Self::until`], and not for ever: when services only wait for one another and nothing happens for [`QUIET`], or the engine
    /// does not answer for [`ENGINE_SILENT`], the wait ends with that. What is in progress has a limit of its own.
    async fn until_or_quiet(&self, revision: u64, reached: impl Fn(&View) -> bool) -> Result<View, CommandError> {
        let mut from = revision;
        let mut waits: Option<(Standstill, Instant)> = None;
        loop {
            let look = |view: &View| Some((view.revision, reached(view).then(|| view.clone()), Standstill::of(view)));
            let next = self.until(from, look);
            let (seen, found, standstill) = match &waits {
                None => next.await?,
                Some((standstill, since)) => match tokio::time::timeout_at(*since + standstill.limit(), next).await {
                    Ok(next) => next?,
                    Err(_) => return Err(standstill.error()),
                },
            };
            if let Some(view) = found {
                return Ok(view);
            }
            from = seen + 1;
            waits = match (waits, standstill) {
                (Some((before, since)), Some(now)) if before == now => Some((before, since)),
                (_, now) => now.map(|now| (now, Instant::now())),
            };
        }
    }

    /// Waits until all its resources are removed, or it is requested to start again.
    pub(crate) async fn until_down(&self, revision: u64) -> Result<View, CommandError> {
        self.until_or_quiet(revision, |view| view.goal == Goal::Up || view.status.phase == Phase::Absent).await
    }

    pub(crate) async fn until_settled(&self, revision: u64, names: &[ServiceName]) -> Result<View, CommandError> {
        let is_over = |view: &View, name: &ServiceName| view.has_settled(name) || view.blocked_by(name.as_str()).is_some();
        self.until_or_quiet(revision, |view| view.goal != Goal::Up || names.iter().all(|name| is_over(view, name))).await
    }

    /// Waits until the services are ready (or completed); gives up when one of them has, or is stopped.
    pub(crate) async fn until_ready(&self, names: &[String]) -> Result<View, CommandError> {
        self.until_or_quiet(0, |view| {
            let named = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
            // What can be done without is waited for only by name.
            let needed = |service: &devenv_api::Service| named(&service.name) && !(names.is_empty() && service.optional == Some(true));
            let ready = view.status.services.iter().filter(|service| named(&service.name)).all(|service| {
                matches!(service.state, devenv_api::ServiceState::Ready | devenv_api::ServiceState::Completed)
                    || (names.is_empty()
                        && service.optional == Some(true)
                        && (service.state == devenv_api::ServiceState::Stopped
                            || view.failures.iter().any(|failed| failed.name.as_str() == service.name)))
            });
            let rests = |state| matches!(state, devenv_api::ServiceState::Stopped | devenv_api::ServiceState::Asleep);
            let stopped = view.status.services.iter().any(|service| needed(service) && rests(service.state));
            let failed = view.failures.iter().any(|failed| named(failed.name.as_str()) && (!failed.optional || !names.is_empty()));
            let blocked = view.blocked.iter().any(|blocked| named(blocked.name.as_str()) && (!blocked.optional || !names.is_empty()));
            let nothing = view.goal != Goal::Up || view.status.services.is_empty();
            ready || failed || blocked || stopped || nothing
        })
        .await
    }
}

/// What nothing is in progress for.
#[derive(Debug, PartialEq)]
enum Standstill {
    /// Services that wait for one another.
    Services(Vec<String>),
    /// The engine does not answer.
    Engine,
}

impl Standstill {
    fn of(view: &View) -> Option<Self> {
        if view.engine_lost {
            return Some(Self::Engine);
        }
        let names: Vec<String> = view.only_waits().into_iter().map(ToOwned::to_owned).collect();
        (!names.is_empty()).then_some(Self::Services(names))
    }

    fn limit(&self) -> Duration {
        match self {
            Self::Services(_) => QUIET,
            Self::Engine => ENGINE_SILENT,
        }
    }

    fn error(&self) -> CommandError {
        match self {
            Self::Services(names) => CommandError::Quiet { services: names.join(", ") },
            Self::Engine => CommandError::EngineSilent,
        }
    }
}
