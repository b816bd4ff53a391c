//! PASS or FAIL, and why: etcdctl's bounds, and its lines.

use std::io::{self, Write};

use serde::Serialize;

use super::load::Tally;
use crate::args::WriteOut;
use crate::limits::{CHECK_DEVIATION_S_MAX, CHECK_SLOWEST_S_MAX, CHECK_THROUGHPUT_SHARE_MIN};
use crate::output::Printer;

/// The outcome of a check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) passed: bool,
    writes_per_s: u64,
    slowest_s: f64,
    stddev_s: f64,
    acknowledged: u64,
    errors: u64,
    rate: u64,
    seconds: f64,
    /// The lines that people read, without the last one.
    lines: Vec<String>,
}

impl Verdict {
    /// Compares the outcome with the bounds. `asked_seconds` is how long the check should have lasted.
    pub(super) fn new(rate: u64, asked_seconds: u64, tally: &Tally, is_interrupted: bool) -> Self {
        let (throughput, slowest, deviation) = (tally.throughput(), tally.slowest, tally.deviation());
        let errors: u64 = tally.errors.values().sum();
        // As etcdctl rounds it.
        let writes_per_s = throughput as u64 + 1;
        let mut verdict = Self {
            passed: true,
            writes_per_s,
            slowest_s: slowest,
            stddev_s: deviation,
            acknowledged: tally.acknowledged,
            errors,
            rate,
            seconds: tally.took.as_secs_f64(),
            lines: Vec::new(),
        };
        if is_interrupted {
            verdict.fail(format!("interrupted after {:.1} of {asked_seconds} s", verdict.seconds));
        }
        if errors > 0 {
            verdict.fail("too many errors".to_owned());
            tally.errors.iter().for_each(|(error, count)| verdict.fail(format!("ERROR({error}) -> {count}")));
        }
        if throughput / rate as f64 <= CHECK_THROUGHPUT_SHARE_MIN {
            verdict.fail(format!("Throughput too low: {writes_per_s} writes/s"));
        } else {
            verdict.pass(format!("Throughput is {writes_per_s} writes/s"));
        }
        if slowest > CHECK_SLOWEST_S_MAX {
            verdict.fail(format!("Slowest request took too long: {slowest:.6}s"));
        } else {
            verdict.pass(format!("Slowest request took {slowest:.6}s"));
        }
        if deviation > CHECK_DEVIATION_S_MAX {
            verdict.fail(format!("Stddev too high: {deviation:.6}s"));
        } else {
            verdict.pass(format!("Stddev is {deviation:.6}s"));
        }
        verdict
    }

    /// Adds that the keys could not be deleted.
    pub(super) fn cleanup_failed(&mut self, error: &str) {
        self.fail(format!("Cleanup failed during key deletion: ERROR({error})"));
    }

    fn pass(&mut self, what: String) {
        self.lines.push(format!("PASS: {what}"));
    }

    fn fail(&mut self, what: String) {
        self.passed = false;
        self.lines.push(format!("FAIL: {what}"));
    }

    /// Prints it.
    pub(super) fn print<W: Write>(&self, printer: &mut Printer<W>) -> io::Result<()> {
        match printer.form() {
            WriteOut::Json => printer.json(self),
            WriteOut::Fields => printer.fields_of(self),
            WriteOut::Simple | WriteOut::Table => {
                self.lines.iter().try_for_each(|line| printer.line(line.as_bytes()))?;
                printer.line(if self.passed { b"PASS" } else { b"FAIL" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tally() -> Tally {
        let took = Duration::from_secs(60);
        Tally { acknowledged: 9000, sum: 90.0, sum_of_squares: 1.8, slowest: 0.087_509, took, ..Tally::default() }
    }

    fn text(verdict: &Verdict) -> String {
        let mut out = Vec::new();
        verdict.print(&mut Printer::new(WriteOut::Simple, &mut out)).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_cluster_that_keeps_up_passes() {
        let verdict = Verdict::new(150, 60, &tally(), false);
        assert_eq!(
            text(&verdict),
            "PASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.087509s\nPASS: Stddev is 0.010000s\nPASS\n"
        );
        assert!(verdict.passed);
    }

    #[test]
    fn each_bound_alone_makes_it_fail() {
        let mut many_errors = tally();
        many_errors.errors.insert("overloaded".to_owned(), 2);
        let cases = [
            (Tally { acknowledged: 8100, ..tally() }, "FAIL: Throughput too low: 136 writes/s"),
            (Tally { slowest: 0.6, ..tally() }, "FAIL: Slowest request took too long: 0.600000s"),
            (Tally { sum_of_squares: 900.0, ..tally() }, "FAIL: Stddev too high: 0.316070s"),
            (many_errors, "FAIL: too many errors\nFAIL: ERROR(overloaded) -> 2\n"),
        ];
        for (tally, line) in cases {
            let verdict = Verdict::new(150, 60, &tally, false);
            let text = text(&verdict);
            assert!(!verdict.passed && text.contains(line) && text.ends_with("\nFAIL\n"), "{text}");
        }
        let verdict = Verdict::new(150, 60, &Tally { took: Duration::from_secs(3), ..tally() }, true);
        assert!(text(&verdict).starts_with("FAIL: interrupted after 3.0 of 60 s\n"), "{}", text(&verdict));
        let mut verdict = Verdict::new(150, 60, &tally(), false);
        verdict.cleanup_failed("gone");
        assert!(text(&verdict).ends_with("FAIL: Cleanup failed during key deletion: ERROR(gone)\nFAIL\n"));
    }
}
