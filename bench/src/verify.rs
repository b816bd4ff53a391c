//! Reads back, page by page, what a tracked load wrote, and checks it row by row.
//!
//! It reads through [`RowSource`]: the caller chooses which node answers, and how consistent the answer is. Workers are shared out to
//! lanes, which read at the same time; each lane holds one page in memory.

use std::fmt;
use std::rc::Rc;

use thiserror::Error;
use tokio::task::JoinSet;

use crate::check::{CheckReport, Expected};
use crate::keys::{tracked_key, tracked_range};
use crate::limits::{LANE_COUNT, PAGE_BYTES_MAX, PAGE_ROWS_MAX};

/// A row as it is stored: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Something rows can be read from, in key order.
pub trait RowSource: 'static {
    /// Why it could not be read.
    type Error: fmt::Display;

    /// The first `limit` rows of `begin..end`, or fewer where an answer has no room for more. Without rows the range is empty. Gives up
    /// by itself after some time.
    fn page(&self, begin: &[u8], end: &[u8], limit: usize) -> impl Future<Output = Result<Vec<Row>, Self::Error>>;
}

/// Why a verification did not come to an end.
#[derive(Debug, Error)]
pub enum ReadBackError {
    /// The source could not be read.
    #[error("cannot read back the writes of worker {worker}: {reason}")]
    Read {
        /// The worker whose rows were being read.
        worker: usize,
        /// What the source said.
        reason: String,
    },
    /// A lane ended by a panic; its message is on stderr.
    #[error("a verification task panicked")]
    Panicked,
}

/// Reads all rows of the load from `source` and compares them with what is expected. Needs a local tokio runtime.
///
/// # Errors
/// The source could not be read to the end.
pub async fn verify_all<S: RowSource>(expected: &Rc<Expected>, source: &Rc<S>) -> Result<CheckReport, ReadBackError> {
    in_lanes(expected, source, async |expected, source, worker| verify_worker(expected, source, worker).await).await
}

/// Reads each worker's last acknowledged row from `source` and compares it: a quick check, not a full one.
///
/// # Errors
/// The source could not be read to the end.
pub async fn verify_last<S: RowSource>(expected: &Rc<Expected>, source: &Rc<S>) -> Result<CheckReport, ReadBackError> {
    in_lanes(expected, source, async |expected, source, worker| verify_last_of(expected, source, worker).await).await
}

async fn in_lanes<S, F>(expected: &Rc<Expected>, source: &Rc<S>, verify: F) -> Result<CheckReport, ReadBackError>
where
    S: RowSource,
    F: AsyncFn(&Expected, &S, usize) -> Result<CheckReport, ReadBackError> + Copy + 'static,
{
    let mut lanes = JoinSet::new();
    for lane in 0..LANE_COUNT {
        let (expected, source) = (Rc::clone(expected), Rc::clone(source));
        lanes.spawn_local(async move {
            let mut report = CheckReport::default();
            for worker in (lane..expected.worker_count()).step_by(LANE_COUNT) {
                report.merge(&verify(&expected, &source, worker).await?);
            }
            Ok(report)
        });
    }
    let mut report = CheckReport::default();
    while let Some(lane) = lanes.join_next().await {
        report.merge(&lane.map_err(|_| ReadBackError::Panicked)??);
    }
    Ok(report)
}

async fn verify_worker<S: RowSource>(
    expected: &Expected,
    source: &S,
    worker: usize,
) -> Result<CheckReport, ReadBackError> {
    let Some(mut check) = expected.check_worker(worker) else { return Ok(CheckReport::default()) };
    let limit = (PAGE_BYTES_MAX / expected.value_bytes().max(1)).clamp(1, PAGE_ROWS_MAX);
    let (mut begin, end) = tracked_range(worker);
    loop {
        let page = source.page(&begin, &end, limit).await;
        let rows = page.map_err(|error| ReadBackError::Read { worker, reason: error.to_string() })?;
        rows.iter().for_each(|(key, value)| check.row(key, value));
        match rows.into_iter().next_back() {
            // Another page may follow; it begins right after the last row, and so further on each time.
            Some((last, _)) if last >= begin => begin = successor(last),
            _ => return Ok(check.finish()),
        }
    }
}

async fn verify_last_of<S: RowSource>(
    expected: &Expected,
    source: &S,
    worker: usize,
) -> Result<CheckReport, ReadBackError> {
    let mut report = CheckReport::default();
    let Some(sequence) = expected.last_acknowledged(worker) else { return Ok(report) };
    let key = tracked_key(worker, sequence, expected.shard_count());
    let page = source.page(&key, &successor(key.clone()), 1).await;
    let rows = page.map_err(|error| ReadBackError::Read { worker, reason: error.to_string() })?;
    report.row_count = rows.len() as u64;
    match rows.first() {
        Some((found, value)) if *found == key && expected.is_value(value, worker, sequence) => {
            report.verified_count = 1
        }
        Some(_) => report.wrong_count = 1,
        None => report.missing_count = 1,
    }
    if report.verified_count == 0 {
        report.examples.push(format!("{} is not what was acknowledged", String::from_utf8_lossy(&key)));
    }
    Ok(report)
}

/// The key right after `key` in byte order.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;
    use crate::acks::{LoadWrites, WorkerWrites};
    use crate::keys::{Filler, KeyPlan, WriteSource};

    const VALUE_BYTES: usize = 2000;

    #[derive(Default)]
    struct Rows {
        rows: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
        page_count: Cell<usize>,
        is_broken: bool,
    }

    impl RowSource for Rows {
        type Error = &'static str;

        async fn page(&self, begin: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, &'static str> {
            tokio::task::yield_now().await;
            if self.is_broken {
                return Err("connection refused");
            }
            self.page_count.set(self.page_count.get() + 1);
            let rows = self.rows.borrow();
            let range = rows.range(begin.to_vec()..end.to_vec());
            Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }

    /// `worker_count` workers with `write_count` acknowledged writes each, all present.
    fn scenario(worker_count: usize, write_count: u64) -> (Rc<Expected>, Rows) {
        let filler = Filler::new(VALUE_BYTES);
        let rows = Rows::default();
        let mut workers = Vec::new();
        for worker in 0..worker_count {
            let mut source = WriteSource::new(KeyPlan::Tracked { shard_count: 2 }, worker, worker_count, 1, &filler);
            let mut writes = WorkerWrites::default();
            for sequence in 0..write_count {
                let (key, value) = source.next_write();
                rows.rows.borrow_mut().insert(key.to_vec(), value.to_vec());
                writes.acknowledged.push(sequence);
            }
            writes.sent_count = write_count;
            workers.push(writes);
        }
        (Rc::new(Expected::new(LoadWrites { workers }, VALUE_BYTES, 2)), rows)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let options = tokio::runtime::LocalOptions::default();
        tokio::runtime::Builder::new_current_thread().build_local(options).expect("a runtime").block_on(future)
    }

    #[test]
    fn all_rows_are_read_in_pages_and_verified() {
        let (expected, rows) = scenario(7, 300);
        let rows = Rc::new(rows);
        let report = run(verify_all(&expected, &rows)).expect("readable");
        assert_eq!((report.verified_count, report.row_count, report.lost_count()), (2100, 2100, 0));
        assert!(rows.page_count.get() > 7 * 2, "{} pages", rows.page_count.get());
    }

    #[test]
    fn a_removed_row_is_lost_and_named() {
        let (expected, rows) = scenario(3, 10);
        let key = tracked_key(2, 9, 2);
        rows.rows.borrow_mut().remove(&key);
        let rows = Rc::new(rows);
        for report in [run(verify_all(&expected, &rows)), run(verify_last(&expected, &rows))] {
            let report = report.expect("readable");
            assert_eq!((report.missing_count, report.unexpected_count), (1, 0));
            assert!(report.examples[0].starts_with("w00002-0000000009"), "{:?}", report.examples);
        }
    }

    #[test]
    fn a_source_that_fails_is_an_error_not_a_loss() {
        let (expected, mut rows) = scenario(3, 10);
        rows.is_broken = true;
        let error = run(verify_all(&expected, &Rc::new(rows))).expect_err("cannot be read");
        assert!(error.to_string().ends_with("connection refused"), "{error}");
    }
}
