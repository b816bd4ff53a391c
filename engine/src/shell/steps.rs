//! What a node does while it starts, and a thread that says so when a step takes long.
//!
//! The thread depends on no executor and touches no file, so it speaks whatever hangs: a disk, a lock, a core that never
//! runs. It changes nothing and gives nothing up: whoever waits for the node decides how long.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::limits::{STEP_SAID_AFTER, STEP_SAID_PAUSE_MAX};

/// The steps of one start. Clones share them.
#[derive(Clone, Debug)]
pub struct Steps {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    step: String,
    since: Instant,
    /// How long the step lasts when it is named next.
    say_at: Duration,
    /// Where each core is, once cores are being started.
    cores: BTreeMap<usize, &'static str>,
    is_over: bool,
}

/// Ends the thread when the start is over, however it went.
#[derive(Debug)]
pub struct Watch {
    steps: Steps,
    thread: Option<JoinHandle<()>>,
}

impl Default for Steps {
    fn default() -> Self {
        let state = State {
            step: String::new(),
            since: Instant::now(),
            say_at: STEP_SAID_AFTER,
            cores: BTreeMap::new(),
            is_over: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }
}

impl Steps {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn watch(&self) -> std::io::Result<Watch> {
        let steps = self.clone();
        let thread = std::thread::Builder::new().name("quorate-start".to_owned()).spawn(move || {
            steps.say_until_over(|step, step_s, cores| {
                let cores = by_place(cores);
                tracing::warn!(step, step_s, cores, "the node is still starting: this step takes long");
            });
        })?;
        Ok(Watch { steps: self.clone(), thread: Some(thread) })
    }

    /// The next step of the start begins.
    pub fn enter(&self, step: impl Into<String>) {
        let mut state = self.lock();
        state.step = step.into();
        state.since = Instant::now();
        state.say_at = STEP_SAID_AFTER;
    }

    /// A core has come so far.
    pub fn core_is(&self, core: usize, place: &'static str) {
        self.lock().cores.insert(core, place);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_until_over(&self, say: impl Fn(&str, u64, &BTreeMap<usize, &'static str>)) {
        let mut state = self.lock();
        while !state.is_over {
            let lasted = state.since.elapsed();
            if lasted >= state.say_at {
                state.say_at = lasted + lasted.min(STEP_SAID_PAUSE_MAX);
                let (step, cores) = (state.step.clone(), state.cores.clone());
                drop(state);
                say(&step, lasted.as_secs(), &cores);
                state = self.lock();
                continue;
            }
            // A step that began meanwhile has all its time before it, so it needs no wake-up of its own.
            let left = state.say_at - lasted;
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How many cores are at each place, and the first of them: a node may have very many.
fn by_place(cores: &BTreeMap<usize, &'static str>) -> String {
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (core, place) in cores {
        places.entry(place).or_insert((*core, 0)).1 += 1;
    }
    let said = places.into_iter().map(|(place, (first, count))| match count {
        1 => format!("core {first} {place}"),
        _ => format!("{count} cores, the first of them {first}, {place}"),
    });
    said.collect::<Vec<_>>().join("; ")
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.steps.lock().is_over = true;
        self.steps.shared.changed.notify_all();
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_panic)) = ended {
            tracing::error!("the thread that watches the start panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_places_of_many_cores_are_said_in_few_words() {
        let mut cores: BTreeMap<usize, &'static str> = (0..99).map(|core| (core, "waiting")).collect();
        cores.insert(3, "running");
        assert_eq!(by_place(&cores), "core 3 running; 98 cores, the first of them 0, waiting");
    }

    #[test]
    fn a_step_that_lasts_is_said_with_the_place_of_each_core_and_a_new_one_has_all_its_time() {
        let steps = Steps::default();
        steps.enter("reading");
        steps.core_is(1, "waiting");
        steps.lock().since -= STEP_SAID_AFTER;
        let (said, lines) = mpsc::channel();
        let watched = steps.clone();
        let thread = std::thread::spawn(move || {
            watched.say_until_over(|step, step_s, cores| {
                said.send((step.to_owned(), step_s, cores.clone())).expect("the test listens");
            });
        });
        let (step, step_s, cores) = lines.recv().expect("it is said");
        assert_eq!((step.as_str(), cores.get(&1)), ("reading", Some(&"waiting")));
        assert!(step_s >= STEP_SAID_AFTER.as_secs());
        steps.enter("syncing");
        assert_eq!(steps.lock().say_at, STEP_SAID_AFTER);
        steps.lock().is_over = true;
        steps.shared.changed.notify_all();
        thread.join().expect("it ends");
    }
}
