//! Progress of a running load on stderr: a bar on a terminal, a line a second anywhere else.
//!
//! It only shows what it is given and measures nothing. Standard output has the story of a run at most, and stays free where a
//! result goes there.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::control::Progress;
use crate::limits::{LINE_EVERY, RATE_OVER};
use crate::report::grouped;

/// A view of one run.
#[derive(Debug)]
pub struct LiveView {
    /// `None` where stderr is no terminal.
    bar: Option<ProgressBar>,
    total: Duration,
    /// The story goes to standard output; otherwise to standard error, beside the progress.
    tells_on_stdout: bool,
    last_line: Option<Instant>,
    rate: Rate,
}

/// Rate of acknowledgements over the last while.
#[derive(Debug, Default)]
struct Rate {
    /// When the rate was taken last, and how many were acknowledged then.
    since: Option<(Instant, u64)>,
    per_second: f64,
}

impl LiveView {
    /// A view of a run that takes `total`, on stderr. Its story goes to standard output if that is not kept for a result.
    #[must_use]
    pub fn new(total: Duration, tells_on_stdout: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let length_ms = u64::try_from(total.as_millis()).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(length_ms), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {msg}") {
                Ok(style) => bar.with_style(style.progress_chars("=> ")),
                Err(_) => bar,
            }
        });
        Self { bar, total, tells_on_stdout, last_line: None, rate: Rate::default() }
    }

    /// Shows where the run is, `elapsed` after its begin; `note` says what is going on, and may be empty.
    pub fn show(&mut self, elapsed: Duration, progress: Progress, note: &str) {
        let now = Instant::now();
        self.rate.update(now, progress.acknowledged_count);
        let text = self.text(progress, note);
        if let Some(bar) = &self.bar {
            let elapsed_ms = u64::try_from(elapsed.min(self.total).as_millis()).unwrap_or(u64::MAX);
            bar.set_position(elapsed_ms);
            bar.set_message(text);
        } else if self.last_line.is_none_or(|last| now.duration_since(last) >= LINE_EVERY) {
            self.last_line = Some(now);
            eprintln!("{:5.1} s  {text}", elapsed.as_secs_f64());
        }
    }

    /// Prints a line of the story, above the bar.
    pub fn story(&self, line: &str) {
        let print = || if self.tells_on_stdout { println!("{line}") } else { eprintln!("{line}") };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn text(&self, progress: Progress, note: &str) -> String {
        let rate = grouped(self.rate.per_second.round() as u64);
        let mut text = format!("{rate:>9} writes/s  {} acknowledged", grouped(progress.acknowledged_count));
        if progress.failure_count > 0 {
            text.push_str(&format!("  {} errors", grouped(progress.failure_count)));
        }
        if !note.is_empty() {
            text.push_str("  ");
            text.push_str(note);
        }
        text
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Rate {
    fn update(&mut self, now: Instant, count: u64) {
        match self.since {
            None => self.since = Some((now, count)),
            Some((begun, before)) => {
                let over = now.duration_since(begun);
                if over >= RATE_OVER {
                    self.per_second = count.saturating_sub(before) as f64 / over.as_secs_f64();
                    self.since = Some((now, count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_taken_over_the_last_while() {
        let mut rate = Rate::default();
        let begin = Instant::now();
        rate.update(begin, 1000);
        rate.update(begin + RATE_OVER / 2, 9000);
        assert_eq!(rate.per_second, 0.0);
        rate.update(begin + RATE_OVER, 2000);
        assert_eq!(rate.per_second, 2000.0);
    }

    #[test]
    fn errors_and_notes_appear_only_when_there_are_any() {
        let view = LiveView {
            bar: None,
            total: Duration::ZERO,
            tells_on_stdout: true,
            last_line: None,
            rate: Rate::default(),
        };
        let quiet = view.text(Progress { acknowledged_count: 1500, failure_count: 0 }, "");
        assert_eq!(quiet, "        0 writes/s  1,500 acknowledged");
        let loud = view.text(Progress { acknowledged_count: 1500, failure_count: 7 }, "electing");
        assert_eq!(loud, "        0 writes/s  1,500 acknowledged  7 errors  electing");
    }
}
