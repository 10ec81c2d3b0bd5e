//! Wakes services that clients wait for, and puts those to sleep that nobody uses: submits the operations, and does neither itself.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use devenv_api::{ApiError, AskedBy, ErrorCode};
use devenv_spec::{EnvironmentId, ServiceName, Size};
use futures_util::future::join_all;
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    environment::{Environment, Environments},
    operation::{Operations, Prepared, sleep as sleeping},
    paths::MEMORY_BUDGET as BUDGET,
};

/// How often it is looked for services that nobody uses.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after an operation that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// How often the memory of all environments is compared with the budget.
const MEASURE: Duration = Duration::from_secs(10);

/// The operations that it has submitted and that have not ended. `None` stands for one that puts to sleep.
type Submitted = Arc<Mutex<HashSet<(EnvironmentId, Option<ServiceName>)>>>;

/// What the containers of all environments may take together, in bytes; `None` without a limit.
pub(super) fn budget(text: Option<String>) -> Result<Option<u64>, ApiError> {
    let size = text.filter(|text| !text.is_empty()).map(|text| text.parse::<Size>()).transpose();
    size.map(|size| size.map(Size::bytes)).map_err(|error| ApiError::new(ErrorCode::Usage, format!("{BUDGET}: {error}")))
}

/// The environment to put to sleep, if all together take more memory than the budget.
async fn over(environments: &Environments, budget: u64) -> Option<Environment> {
    let all = environments.all();
    let used: u64 = join_all(all.iter().map(|environment| environment.memory())).await.into_iter().sum();
    let idle: Vec<Option<Duration>> = all.iter().map(|environment| environment.spare().map(|(_, idle)| idle)).collect();
    all.into_iter().nth(least_used(used, budget, &idle)?)
}

/// The place of the environment that nobody has used for the longest time. `None`s are in use, or free nothing.
fn least_used(used: u64, budget: u64, idle: &[Option<Duration>]) -> Option<usize> {
    if used <= budget {
        return None;
    }
    (0..idle.len()).filter(|place| idle[*place].is_some()).max_by_key(|place| idle[*place])
}

/// Until the daemon stops.
pub(super) async fn look_after_sleep(environments: Environments, operations: Operations, budget: Option<u64>, stop: CancellationToken) {
    let mut measured = Instant::now();
    let bell = environments.bell();
    let submitted = Submitted::default();
    let mut tasks = JoinSet::new();
    loop {
        for environment in environments.all() {
            if environment.fronts.is_empty() {
                continue;
            }
            let (id, of) = (&environment.id, submitted.clone());
            let is_new = |service: Option<&ServiceName>| !lock(&of).contains(&(id.clone(), service.cloned()));
            let calling: Vec<ServiceName> = environment.fronts.calling().into_iter().filter(|name| is_new(Some(name))).collect();
            if !calling.is_empty() {
                let (prepared, asked_by) = wake(&environment, &calling);
                let keys = calling.into_iter().map(|name| (id.clone(), Some(name))).collect();
                tasks.spawn(carry_out(operations.clone(), prepared, asked_by, submitted.clone(), keys, bell.clone()));
            } else if is_new(None) && !environment.due().is_empty() {
                let asked_by = AskedBy { command: "the daemon, because nobody uses it".to_owned(), ..AskedBy::default() };
                let keys = vec![(id.clone(), None)];
                let prepared = sleeping::when_unused(&environment, false);
                tasks.spawn(carry_out(operations.clone(), prepared, asked_by, submitted.clone(), keys, bell.clone()));
            }
        }
        if let Some(budget) = budget.filter(|_| measured.elapsed() >= MEASURE) {
            measured = Instant::now();
            let (environments, operations, submitted, bell) = (environments.clone(), operations.clone(), submitted.clone(), bell.clone());
            // The engine takes its time to measure; clients do not wait for that.
            tasks.spawn(async move {
                let Some(environment) = over(&environments, budget).await else { return };
                let key = (environment.id.clone(), None);
                if !lock(&submitted).contains(&key) {
                    let asked_by = AskedBy { command: format!("the daemon, because of {BUDGET}"), ..AskedBy::default() };
                    let prepared = sleeping::when_unused(&environment, true);
                    drop(environment);
                    carry_out(operations, prepared, asked_by, submitted, vec![key], bell).await;
                }
            });
        }
        // Each is cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell.notified() => {}
            Some(_) = tasks.join_next() => {}
            () = sleep(LOOK) => {}
        }
    }
}

fn wake(environment: &Environment, names: &[ServiceName]) -> (Prepared, AskedBy) {
    let listed: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
    let asked_by = AskedBy { command: format!("a client of {}", listed.join(", ")), ..AskedBy::default() };
    (sleeping::waking(environment, names.to_vec(), "a client uses it"), asked_by)
}

fn lock(submitted: &Submitted) -> std::sync::MutexGuard<'_, HashSet<(EnvironmentId, Option<ServiceName>)>> {
    submitted.lock().expect("no code panics while it holds this lock")
}

/// The keys are noted when this is called, and forgotten at the end of the operation.
fn carry_out(
    operations: Operations,
    prepared: Prepared,
    asked_by: AskedBy,
    submitted: Submitted,
    keys: Vec<(EnvironmentId, Option<ServiceName>)>,
    bell: Arc<Notify>,
) -> impl Future<Output = ()> {
    lock(&submitted).extend(keys.iter().cloned());
    async move {
        let result = match operations.begin(prepared, asked_by).await {
            Ok(follower) => follower.result().await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::info!(reason = error.message, "A service could not be woken or put to sleep.");
            sleep(AFTER_FAILURE).await;
        }
        for key in &keys {
            lock(&submitted).remove(key);
        }
        bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_that_nobody_has_used_for_the_longest_time_sleeps_first_and_only_over_the_budget() {
        let idle = [Some(Duration::from_mins(1)), None, Some(Duration::from_secs(90)), Some(Duration::from_secs(30))];
        assert_eq!(least_used(3, 2, &idle), Some(2));
        assert_eq!(least_used(2, 2, &idle), None);
        assert_eq!(least_used(3, 2, &[None]), None);
        let given = |text: &str| budget(Some(text.to_owned()));
        assert_eq!((given("8GiB").unwrap(), budget(None).unwrap()), (Some(8 << 30), None));
        assert!(given("much").unwrap_err().message.contains("DEVENV_MEMORY_BUDGET"));
    }
}
