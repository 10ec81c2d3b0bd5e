//! One line for each service on a terminal: its state, what it waits for, its progress, and the time it takes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use devenv_api::{Condition, ServiceState, Status};
use indexmap::IndexMap;

use super::{
    ProgressUpdate, first_line,
    meter::{Meter, time},
    screen::{Line, Place, Rows, cut, width},
};
use crate::cli::{
    printer::{BAD, DIM, NAME, paint},
    table::{duration, state_style},
    terminal::visible,
};

/// Columns for names; longer ones are cut.
const NAMES: usize = 16;

pub(in crate::cli) struct Live {
    services: Arc<Mutex<Services>>,
    place: Place,
}

#[derive(Default)]
struct Services {
    by_name: IndexMap<String, Service>,
    /// What the command works on as a whole, if that has a size.
    whole: Option<Whole>,
}

/// Progress that belongs to no service's state, such as a copy of data.
#[derive(Clone)]
struct Whole {
    words: String,
    meter: Meter,
    began: Instant,
}

struct Service {
    state: ServiceState,
    /// When it entered this state.
    since: Instant,
    /// The time from its start to ready, or the duration of the state before.
    after_ms: Option<u64>,
    note: String,
    meter: Option<(Meter, Instant)>,
    needs: IndexMap<String, Condition>,
}

impl Service {
    fn new(state: ServiceState) -> Self {
        Self { state, since: Instant::now(), after_ms: None, note: String::new(), meter: None, needs: IndexMap::new() }
    }

    fn is_over(&self) -> bool {
        matches!(
            self.state,
            ServiceState::Ready
                | ServiceState::Completed
                | ServiceState::Stopped
                | ServiceState::Asleep
                | ServiceState::Failed
                | ServiceState::CrashLoop
        )
    }
}

impl Whole {
    fn of(message: &str, known: Option<Self>) -> Option<Self> {
        let (meter, words) = Meter::of(message, known.as_ref().map(|known| &known.meter))?;
        Some(match known.filter(|known| known.words == words) {
            Some(known) => Self { meter, ..known },
            // The rate counts from here.
            None => Self { meter: Meter::of(message, None)?.0, words, began: Instant::now() },
        })
    }

    fn line(&self, columns: usize) -> String {
        format!("{} {}", self.words, self.meter.text(self.began.elapsed(), columns.saturating_sub(width(&self.words) + 1)))
    }
}

impl Live {
    pub(super) fn new() -> Self {
        let services: Arc<Mutex<Services>> = Arc::default();
        let place = Place::take(services.clone());
        Self { services, place }
    }

    /// Above the lines, where it stays; what has a size is a line with a bar instead, which the next message replaces.
    pub(super) fn message(&self, message: &str) {
        let message = visible(message);
        let known = self.services.lock().unwrap_or_else(PoisonError::into_inner).whole.take();
        match Whole::of(&message, known) {
            Some(whole) => self.change(|services| services.whole = Some(whole)),
            None => self.place.above(&message),
        }
    }

    /// All services of an environment, and what each waits for.
    pub(super) fn services(&self, status: &Status) {
        self.change(|services| {
            for service in &status.services {
                let known = services.by_name.entry(service.name.clone()).or_insert_with(|| Service::new(service.state));
                known.needs.clone_from(&service.depends_on);
            }
        });
    }

    pub(super) fn event(&self, news: &ProgressUpdate<'_>) {
        let Some(name) = news.service else {
            self.message(news.message);
            return;
        };
        let Some(state) = news.state else {
            self.note(name, news.message_without_name());
            return;
        };
        self.change(|services| {
            services.whole = None;
            let service = services.by_name.entry(name.to_owned()).or_insert_with(|| Service::new(state));
            if service.state != state {
                let lasted = service.since.elapsed().as_millis() as u64;
                service.after_ms = None;
                (service.state, service.since, service.meter) = (state, Instant::now(), None);
                service.note.clear();
                if service.is_over() {
                    service.after_ms = Some(lasted);
                }
            }
            service.after_ms = news.after_ms.or(service.after_ms);
            if matches!(state, ServiceState::Unhealthy | ServiceState::Unreachable | ServiceState::CrashLoop | ServiceState::Failed) {
                service.note = paint(BAD, visible(first_line(news.message_without_name())));
            }
        });
    }

    pub(super) fn note(&self, name: &str, message: &str) {
        self.change(|services| {
            let service = services.by_name.entry(name.to_owned()).or_insert_with(|| Service::new(ServiceState::Pending));
            // What follows ready is no change of state.
            if service.is_over() {
                return;
            }
            let message = visible(first_line(message)).into_owned();
            match Meter::of(&message, service.meter.as_ref().map(|(meter, _)| meter)) {
                Some((meter, words)) => {
                    let began = service.meter.as_ref().map_or_else(Instant::now, |(_, began)| *began);
                    (service.note, service.meter) = (words, Some((meter, began)));
                }
                None => (service.note, service.meter) = (message, None),
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Services)) {
        change(&mut self.services.lock().unwrap_or_else(PoisonError::into_inner));
        self.place.draw();
    }
}

impl Rows for Services {
    fn lines(&self, columns: usize) -> Vec<Line> {
        let services =
            self.by_name.iter().map(|(name, service)| Line { text: self.line(name, service, columns), is_over: service.is_over() });
        services.chain(self.whole.iter().map(|whole| Line { text: whole.line(columns), is_over: false })).collect()
    }
}

impl Services {
    fn line(&self, name: &str, service: &Service, columns: usize) -> String {
        let widest = self.by_name.keys().map(|name| width(name)).max().unwrap_or_default().min(NAMES);
        let shown = cut(&visible(name), widest);
        let padding = " ".repeat(widest.saturating_sub(width(&shown)));
        let state = paint(state_style(service.state), service.state);
        let mut text = format!("{}{padding} {state}", paint(NAME, shown));
        let state_columns = service.state.to_string().chars().count();
        if service.is_over() {
            let after = service.after_ms.map(|after| format!(" {}", duration(after))).unwrap_or_default();
            let note = if service.note.is_empty() { String::new() } else { format!(" {}", service.note) };
            return text + &after + &note;
        }
        let elapsed = service.since.elapsed();
        let mut used = widest + 1 + state_columns;
        if elapsed >= Duration::from_secs(1) {
            let elapsed = time(elapsed.as_secs());
            used += 1 + elapsed.len();
            text = format!("{text} {}", paint(DIM, elapsed));
        }
        let note = match self.waits_for(service) {
            waits if !waits.is_empty() => format!("waits for {}", waits.join(", ")),
            _ => service.note.clone(),
        };
        if !note.is_empty() {
            used += 1 + width(&note);
            text = format!("{text} {note}");
        }
        match &service.meter {
            Some((meter, began)) => format!("{text} {}", meter.text(began.elapsed(), columns.saturating_sub(used + 1))),
            None => text,
        }
    }

    /// The dependencies that a service waits for which has not started.
    fn waits_for<'a>(&self, service: &'a Service) -> Vec<&'a str> {
        if service.state != ServiceState::Pending {
            return Vec::new();
        }
        let holds = |name: &str, condition: Condition| {
            self.by_name.get(name).is_some_and(|needed| match condition {
                Condition::Ready => !matches!(needed.state, ServiceState::Ready | ServiceState::Completed),
                Condition::Completed => needed.state != ServiceState::Completed,
                Condition::Started => matches!(needed.state, ServiceState::Pending | ServiceState::Pulling | ServiceState::Creating),
            })
        };
        service.needs.iter().filter(|(name, condition)| holds(name, **condition)).map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(services: &Services, columns: usize) -> Vec<String> {
        services.lines(columns).iter().map(|line| anstream::adapter::strip_str(&line.text).to_string()).collect()
    }

    #[test]
    fn a_line_says_what_a_service_waits_for_and_how_far_a_pull_is() {
        let mut services = Services::default();
        let mut database = Service::new(ServiceState::Pulling);
        database.note = "Downloading".to_owned();
        database.meter = Meter::of("Downloading 100/400 bytes", None).map(|(meter, _)| (meter, Instant::now()));
        services.by_name.insert("db".to_owned(), database);
        let mut api = Service::new(ServiceState::Pending);
        api.needs = IndexMap::from([("db".to_owned(), Condition::Ready), ("other".to_owned(), Condition::Ready)]);
        services.by_name.insert("api".to_owned(), api);
        assert_eq!(shown(&services, 80), ["db  pulling Downloading [####------------] 100 B of 400 B", "api pending waits for db"]);
        assert_eq!(shown(&services, 30)[0], "db  pulling Downloading 25 %");

        let database = services.by_name.get_mut("db").unwrap();
        (database.state, database.after_ms, database.meter) = (ServiceState::Ready, Some(812), None);
        database.note.clear();
        assert_eq!(shown(&services, 80), ["db  ready 812 ms", "api pending"]);
    }

    #[test]
    fn a_copy_is_a_line_with_a_bar_and_its_rate_counts_from_its_first_message() {
        let mut services = Services::default();
        let first = Whole::of("copying db/data 100000000/400000000 bytes", None).unwrap();
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        services.whole = Whole::of("copying db/data 200000000/400000000 bytes", Some(Whole { began, ..first }));
        assert_eq!(shown(&services, 100), ["copying db/data [########--------] 200.0 MB of 400.0 MB, 10.0 MB/s, 21 s left"]);
        assert_eq!(shown(&services, 60), ["copying db/data 50 %, 10.0 MB/s, 21 s left"]);
        let other = Whole::of("copying cache/keys 100000000/400000000 bytes", services.whole.take()).unwrap();
        assert_eq!((other.words.as_str(), other.began.elapsed().as_secs()), ("copying cache/keys", 0));
        assert!(Whole::of("restoring app of db beside the data in use", Some(other)).is_none());
    }

    #[test]
    fn long_names_leave_room_for_the_rest() {
        let mut services = Services::default();
        services.by_name.insert("a-service-with-a-very-long-name".to_owned(), Service::new(ServiceState::Starting));
        assert_eq!(shown(&services, 60), ["a-service-with-… starting"]);
    }
}
