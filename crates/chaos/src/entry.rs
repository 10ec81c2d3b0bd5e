//! The life of one entry of the timeline: waiting, injection, healing, recovery.

use std::time::Duration;

use devenv_api::{PlannedFault, ServiceState};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    daemon_api::InjectOrder,
    metrics, plan,
    progress::{EntryProgress, Phase},
    run_context::Run,
    scenario::{Entry, Moment, Start},
};
use devenv_faults::Undoing;

/// An injection is answered once its effect is observed; a much longer wait means that the daemon has a problem.
const INJECTION: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(20);

/// Runs one entry. If it is cancelled at any point, the progress board knows the fault that it leaves behind.
pub(crate) async fn live(run: &Run<'_>, index: usize) {
    let entry = &run.scenario.timeline[index];
    if begins(run, entry, index).await.is_some() && injected(run, entry, index).await.is_some() {
        healed(run, entry, index).await;
        recovered(run, entry, index).await;
    }
    run.board.write(index, |progress| progress.phase = Phase::Over);
}

/// Waits until the entry is due; `None` if that never happens.
async fn begins(run: &Run<'_>, entry: &Entry, index: usize) -> Option<()> {
    let delay = plan::delay(&run.plan.plan[index]);
    match &entry.start {
        Start::At(_) => {
            run.board.write(index, |progress| progress.phase = Phase::Waits);
            run.sleep_until(run.zero_us() + micros(delay)).await;
        }
        Start::After { id, moment, .. } => {
            let before = run.scenario.timeline.iter().position(|entry| entry.id == *id)?;
            let happened = run.board.until(|entries| happened(&entries[before], *moment)).await?;
            run.board.write(index, |progress| progress.phase = Phase::Waits);
            run.sleep_until(happened + micros(delay)).await;
        }
        Start::When(condition) => {
            run.board.write(index, |progress| progress.phase = Phase::Waits);
            while !metrics::holds(condition, &run.pool, run.working_for(), run.directory) {
                sleep(TICK).await;
            }
        }
    }
    Some(())
}

/// The time at which the event happened; `Some(None)` if it will never happen.
#[expect(clippy::option_option, reason = "the condition is neither pending nor impossible nor timed")]
fn happened(progress: &EntryProgress, moment: Moment) -> Option<Option<u64>> {
    let at = match moment {
        Moment::Injected => progress.injected_us.filter(|_| progress.witnessed()),
        Moment::Healed => progress.healed_us,
        Moment::Recovered => progress.recovered_us,
    };
    if at.is_some() || progress.phase == Phase::Over { Some(at) } else { None }
}

pub(super) fn order(entry: &Entry, planned: &PlannedFault, id: String) -> InjectOrder {
    InjectOrder {
        id,
        fault: entry.fault.clone(),
        service: entry.on.clone(),
        for_ms: planned.for_ms,
        parameters: entry.parameters.clone(),
        seed: planned.seed,
    }
}

async fn injected(run: &Run<'_>, entry: &Entry, index: usize) -> Option<()> {
    let mut order = order(entry, &run.plan.plan[index], run.fault_id(&entry.id));
    // A fault that lasts to the end still gets a limit: nobody may be left to heal it.
    order.for_ms = order.for_ms.or_else(|| entry.lasts().then(|| run.left().as_millis() as u64 + 10_000));
    run.journal.write(
        Some(&entry.on),
        "fault.injecting",
        format!("{}: injecting {} into {}", entry.id, entry.fault, entry.on),
        json!({ "id": entry.id, "fault": entry.fault, "daemon_id": order.id, "for_ms": order.for_ms, "parameters": order.parameters, "at_ms": run.at_ms() }),
    );
    let asked = run.now_us();
    run.board.write(index, |progress| {
        progress.phase = Phase::Acts;
        progress.asked_us = Some(asked);
    });
    let answer = timeout(INJECTION, run.daemon_api.inject(&order)).await;
    let now = run.now_us();
    match answer {
        Ok(Ok(mut fault)) => {
            let at = run.us_of(&fault.injected_at).filter(|at| (asked..=now).contains(at)).unwrap_or(asked);
            fault.id.clone_from(&entry.id);
            let (seen, what) = match &fault.witness {
                Some(witness) if witness.observed => ("", witness.what.clone()),
                Some(witness) => ("; no effect was observed", witness.what.clone()),
                None => ("; its effect is unknown", String::new()),
            };
            let message = format!("{}: {} is active on {}{seen}: {what}", entry.id, entry.fault, entry.on);
            let data = json!({ "id": entry.id, "witness": fault.witness, "at_ms": run.at_ms() });
            run.journal.write(Some(&entry.on), "fault.injected", message, data);
            run.board.write(index, |progress| {
                progress.injected_us = Some(now);
                progress.fault_us = Some(at);
                progress.fault = Some(fault);
            });
            Some(())
        }
        Ok(Err(error)) => {
            refused(run, entry, index, error.message);
            None
        }
        Err(_) => {
            refused(run, entry, index, format!("no answer within {INJECTION:?}"));
            None
        }
    }
}

fn refused(run: &Run<'_>, entry: &Entry, index: usize, why: String) {
    let message = format!("{}: {} cannot be injected: {why}", entry.id, entry.fault);
    run.journal.write(Some(&entry.on), "fault.refused", message, json!({ "id": entry.id, "at_ms": run.at_ms() }));
    run.board.write(index, |progress| progress.refused = Some(why));
}

/// Waits until the fault ends: after its duration, at the end of the timeline, or by itself.
async fn healed(run: &Run<'_>, entry: &Entry, index: usize) {
    let fault_us = run.board.read(|entries| entries[index].fault_us.or(entries[index].asked_us)).unwrap_or_default();
    if let Some(lasting) = entry.lasting {
        run.sleep_until(fault_us + micros(lasting)).await;
        heal(run, entry).await;
    } else if entry.lasts() {
        run.board.write(index, |progress| progress.phase = Phase::Lasts);
        run.board.released().await;
        run.board.write(index, |progress| progress.phase = Phase::Acts);
        heal(run, entry).await;
    }
    if entry.undone_by == Undoing::Nothing && entry.lasting.is_none() && !entry.ends_itself {
        // There is nothing to undo.
        let now = run.now_us();
        run.board.write(index, |progress| progress.healed_us = Some(now));
        return;
    }
    let (healed, at) = loop {
        let faults = run.daemon_api.faults().await.unwrap_or_default();
        let id = run.fault_id(&entry.id);
        match faults.iter().find(|fault| fault.id == id) {
            Some(fault) if fault.healed_at.is_none() => {}
            Some(fault) => break (fault.healed_at.clone(), fault.healed_at.as_deref().and_then(|at| run.us_of(at))),
            // The daemon does not know the fault, so it is not active, unless the request got no answer.
            None if !faults.is_empty()
                || run.daemon_api.status().await.is_ok_and(|status| status.faults.iter().all(|fault| fault.id != id)) =>
            {
                break (None, None);
            }
            None => {}
        }
        sleep(TICK).await;
    };
    let now = run.now_us();
    let at = at.filter(|at| (fault_us..=now).contains(at)).unwrap_or(now);
    run.journal.write(
        Some(&entry.on),
        "fault.healed",
        format!("{}: {} was undone", entry.id, entry.fault),
        json!({ "id": entry.id, "at_ms": run.ms_of(at) }),
    );
    run.board.write(index, |progress| {
        progress.healed_us = Some(at);
        if let Some(fault) = &mut progress.fault {
            fault.healed_at = healed;
        }
    });
}

async fn heal(run: &Run<'_>, entry: &Entry) {
    if let Err(error) = run.daemon_api.heal(&[run.fault_id(&entry.id)]).await {
        // The end of the run heals all faults again, and verifies it.
        run.journal.write(
            Some(&entry.on),
            "fault.not-healed",
            format!("{}: cannot be undone: {}", entry.id, error.message),
            json!({ "id": entry.id }),
        );
    }
}

/// Waits until the service answers again and the supervisor reports it ready.
async fn recovered(run: &Run<'_>, entry: &Entry, index: usize) {
    let (from, witnessed) = run
        .board
        .read(|entries| (entries[index].healed_us.max(entries[index].injected_us).unwrap_or_default(), entries[index].witnessed()));
    if !witnessed {
        return;
    }
    let seen = run.pool.seen.get(&entry.on);
    loop {
        if seen.is_none_or(|seen| seen.answers_since(from))
            && let Ok(status) = run.daemon_api.status().await
        {
            let state = status.services.iter().find(|service| service.name == entry.on).map(|service| service.state);
            if matches!(state, Some(ServiceState::Ready | ServiceState::Completed)) {
                break;
            }
            run.board.write(index, |progress| progress.left_ready = true);
        }
        sleep(TICK).await;
    }
    let now = run.now_us();
    run.board.write(index, |progress| progress.recovered_us = Some(now));
    let ready = run.ready_us(index).map(|ready| run.ms_of(ready));
    run.journal.write(
        Some(&entry.on),
        "fault.recovered",
        format!("{}: {} recovered", entry.id, entry.on),
        json!({ "id": entry.id, "at_ms": run.at_ms(), "ready_at_ms": ready }),
    );
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
