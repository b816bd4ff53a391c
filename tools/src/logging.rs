//! A node's log lines on their way to standard error: a bounded queue and a thread that writes.
//!
//! Nothing that happens to standard error reaches the node. A reader that is slow or gone, or a full disk, costs lines and
//! nothing else; lines that were lost are counted, and the count is written once there is room again. Whoever logs waits for
//! nothing but the copy of a line. One line is one event, whatever text of others stands in it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::config::{LogFormat, LogLevel};
use engine::shell::metrics::log_lines_dropped;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{LOG_FLUSH_WITHIN, LOG_QUEUE_BYTES_MAX, LOG_RETRY_PAUSE};

/// Lines on their way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LogQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything was written, or given up.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that were dropped since this was last said.
    dropped_count: u64,
    is_writing: bool,
}

impl LogQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or drops it if there is no room. Control characters in it are written as `\\n` and the like: what others say
    /// must not look like lines of this log, or move the cursor of whoever reads it.
    fn push(&self, line: &[u8]) {
        let line = &*one_line(line);
        let mut state = self.lock();
        if state.lines.len() + line.len() > LOG_QUEUE_BYTES_MAX {
            state.dropped_count += 1;
            log_lines_dropped().inc();
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Waits until what was logged has left, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let state = self.lock();
        // What has not left by then is lost, and nobody is left to be told.
        drop(
            self.shared
                .emptied
                .wait_timeout_while(state, patience, |state| state.is_writing || !state.lines.is_empty()),
        );
    }

    /// Writes what is queued, for as long as the process lives.
    fn run(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            if state.lines.is_empty() {
                self.shared.emptied.notify_all();
            }
            let waited = self.shared.filled.wait_while(state, |state| state.lines.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_writing = true;
            std::mem::swap(&mut taken, &mut state.lines);
            let dropped_count = std::mem::take(&mut state.dropped_count);
            drop(state);
            self.write(&mut out, &mut taken, dropped_count);
            taken.clear();
        }
    }

    /// Writes lines, and after them how many were lost since; what cannot be written is lost too.
    fn write(&self, out: &mut impl Write, lines: &mut Vec<u8>, dropped_count: u64) {
        if dropped_count > 0 {
            lines.extend_from_slice(format!("{dropped_count} log lines were dropped here\n").as_bytes());
        }
        let mut left = lines.as_slice();
        while !left.is_empty() {
            match out.write(left) {
                Ok(0) => break,
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOG_RETRY_PAUSE),
                Err(_) => break,
            }
        }
        let lost_count = left.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lost_count > 0 {
            // The line that said what was dropped before is among the lost, and is no line of the log.
            let said_again = if dropped_count > 0 { dropped_count - 1 } else { 0 };
            self.lock().dropped_count += lost_count + said_again;
            log_lines_dropped().inc_by(lost_count - u64::from(dropped_count > 0));
        }
    }
}

/// The line, without control characters before its end.
fn one_line(line: &[u8]) -> Cow<'_, [u8]> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    if !String::from_utf8_lossy(text).contains(char::is_control) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len());
    for letter in String::from_utf8_lossy(text).chars() {
        if letter.is_control() {
            escaped.extend(letter.escape_default());
        } else {
            escaped.push(letter);
        }
    }
    escaped.push('\n');
    Cow::Owned(escaped.into_bytes())
}

/// A line that is being logged.
#[derive(Debug)]
pub struct Line<'a>(&'a LogQueue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Standard error without the lock and the buffer that others may hold for ever.
struct RawStderr;

impl Write for RawStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs go to standard error; `QUORATE_LOG`, with the filter syntax of tracing, overrides the level for single modules.
///
/// # Errors
/// No thread can be started.
pub fn start(level: LogLevel, format: LogFormat) -> io::Result<LogQueue> {
    let queue = LogQueue::default();
    let writer = queue.clone();
    std::thread::Builder::new().name("quorate-log".to_owned()).spawn(move || writer.run(RawStderr))?;
    let builder = || EnvFilter::builder().with_default_directive(tracing_level(level).into());
    let filter = builder().with_env_var("QUORATE_LOG").from_env();
    let (filter, error) = match filter {
        Ok(filter) => (filter, None),
        Err(error) => (builder().parse_lossy(""), Some(error)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue.clone())
        .with_ansi(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = error {
        tracing::warn!(%error, "QUORATE_LOG is not a filter; it is ignored");
    }
    // The lines that led to a panic leave before its message.
    let (last_lines, previous) = (queue.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        last_lines.flush(LOG_FLUSH_WITHIN);
        previous(info);
    }));
    Ok(queue)
}

fn tracing_level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// Takes what the test lets through, then fails or waits for more.
    struct Gate {
        results: mpsc::Receiver<io::Result<()>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.results.recv() {
                Ok(Ok(())) => {
                    drop(self.taken.send(bytes.to_vec()));
                    Ok(bytes.len())
                }
                Ok(Err(error)) => Err(error),
                Err(_test_has_ended) => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Run {
        queue: LogQueue,
        results: mpsc::Sender<io::Result<()>>,
        taken: mpsc::Receiver<Vec<u8>>,
    }

    fn run() -> Run {
        let queue = LogQueue::default();
        let (results, letting) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        let writer = queue.clone();
        std::thread::spawn(move || writer.run(Gate { results: letting, taken }));
        Run { queue, results, taken: seen }
    }

    impl Run {
        fn next(&self) -> String {
            self.results.send(Ok(())).expect("the writer lives");
            String::from_utf8(self.taken.recv().expect("the writer lives")).expect("text")
        }

        /// Waits until the writer has taken everything and stands at the gate.
        fn wait_until_taken(&self) {
            let started = Instant::now();
            while !self.queue.lock().lines.is_empty() {
                assert!(started.elapsed() < Duration::from_secs(60), "the writer takes nothing");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_counted_and_told() {
        let run = run();
        run.queue.push(b"first\n");
        run.wait_until_taken();
        run.queue.push(&[b'x'; LOG_QUEUE_BYTES_MAX]);
        for _ in 0..3 {
            run.queue.push(b"no room\n");
        }
        assert_eq!(run.next(), "first\n");
        let second = run.next();
        assert!(
            second.ends_with("xx3 log lines were dropped here\n") && second.len() > LOG_QUEUE_BYTES_MAX,
            "{second}"
        );
        run.queue.push(b"last\n");
        assert_eq!(run.next(), "last\n");
        run.queue.flush(Duration::from_secs(60));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_once_they_can() {
        let run = run();
        run.results.send(Err(io::ErrorKind::BrokenPipe.into())).expect("the writer lives");
        run.queue.lock().lines.extend_from_slice(b"one\ntwo\n");
        run.queue.shared.filled.notify_one();
        run.queue.flush(Duration::from_secs(60));
        run.results.send(Err(io::ErrorKind::StorageFull.into())).expect("the writer lives");
        run.queue.push(b"three\n");
        run.queue.flush(Duration::from_secs(60));
        run.queue.push(b"four\n");
        assert_eq!(run.next(), "four\n3 log lines were dropped here\n");
    }

    #[test]
    fn one_event_is_one_line_whatever_others_say_in_it() {
        for (line, expected) in [
            ("WARN peer=a\n", "WARN peer=a\n"),
            ("WARN peer=a\nERROR forged\n", "WARN peer=a\\nERROR forged\n"),
            ("tab\there, \u{1b}[2K\u{9b}2K\r\n", "tab\\there, \\u{1b}[2K\\u{9b}2K\\r\n"),
            ("größer\n", "größer\n"),
            ("without an end\u{0}", "without an end\\u{0}\n"),
            ("\n", "\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&one_line(line.as_bytes())), expected);
        }
    }

    #[test]
    fn a_flush_does_not_wait_for_ever() {
        let run = run();
        run.queue.push(b"nobody takes this\n");
        let started = Instant::now();
        run.queue.flush(Duration::from_millis(1));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
