//! What happened during a run: counted where it happens, printed at the end.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    /// From exec to a ready answer, with the database up all the time.
    ready: Mutex<Vec<Duration>>,
    /// The same, with the database disturbed meanwhile.
    ready_disturbed: Mutex<Vec<Duration>>,
    /// From SIGTERM to exit.
    stopped: Mutex<Vec<Duration>>,
    /// From Postgres's return to a ready answer.
    recovered: Mutex<Vec<Duration>>,
    /// What must not happen and no later look can show: an answer that is not allowed, a process that ended by
    /// itself.
    problems: Mutex<Vec<String>>,
    pub sessions_done: AtomicU64,
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    pub fn count(&self, what: impl Into<String>) {
        self.count_many(what, 1);
    }

    pub fn count_many(&self, what: impl Into<String>, times: u64) {
        *locked(&self.counts).entry(what.into()).or_default() += times;
    }

    pub fn counted(&self, what: &str) -> u64 {
        locked(&self.counts).get(what).copied().unwrap_or_default()
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        locked(&self.counts).clone()
    }

    pub fn ready(&self, after: Duration, undisturbed: bool) {
        locked(if undisturbed { &self.ready } else { &self.ready_disturbed }).push(after);
    }

    pub fn stopped(&self, after: Duration) {
        locked(&self.stopped).push(after);
    }

    pub fn recovered(&self, after: Duration) {
        locked(&self.recovered).push(after);
    }

    pub fn recovery_times(&self) -> Vec<Duration> {
        locked(&self.recovered).clone()
    }

    /// Something that must not happen. The first hundred are kept.
    pub fn problem(&self, text: impl Into<String>) {
        let mut problems = locked(&self.problems);
        let text = text.into();
        if problems.len() < 20 {
            println!("PROBLEM {text}");
        }
        if problems.len() < 100 {
            problems.push(text);
        }
        self.count_problem();
    }

    fn count_problem(&self) {
        self.count("problems");
    }

    pub fn problems(&self) -> Vec<String> {
        locked(&self.problems).clone()
    }

    pub fn ready_times(&self) -> (Vec<Duration>, Vec<Duration>) {
        (locked(&self.ready).clone(), locked(&self.ready_disturbed).clone())
    }

    pub fn stop_times(&self) -> Vec<Duration> {
        locked(&self.stopped).clone()
    }

    pub fn done(&self) -> u64 {
        self.sessions_done.load(Ordering::Relaxed)
    }
}

/// The value below which this many in a hundred lie.
pub fn percentile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort();
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or_default()
}
