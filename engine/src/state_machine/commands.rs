//! Commands: judged before anything of them is done, then done in steps that may lie turns apart.
//!
//! Two things are decided once, from the state before the command: whether it can be done, and which branch of a transaction is taken.
//! What it writes has the next revision, which does not exist before the command is done: a read between two steps sees the state
//! before the command. Nothing else is applied between two steps.

use super::scan::Visit;
use super::{Budget, CommandRefused, LATEST, StateMachine};
use crate::limits::COUNTED_PER_VISIT;
use crate::types::Revision;
use api::command::{Command, Compare, CompareTarget, Op, Txn};
use api::response::{self, KvView, ResponseWriter};

/// What came of a command that is done.
pub(super) struct Done {
    pub(super) changed: bool,
    /// The answer, if one was wanted, is whole.
    pub(super) is_whole: bool,
}

/// Told of every change, if somebody follows them.
pub(super) type OnChange<'a> = Option<&'a mut dyn FnMut(Made<'_>)>;

/// A change of a key.
pub(super) struct Made<'a> {
    pub(super) revision: Revision,
    pub(super) key: &'a [u8],
    /// Its value and its lease; `None` = it was deleted.
    pub(super) put: Option<(&'a [u8], u64)>,
    /// What it was before, if it was there.
    pub(super) before: Option<KvView<'a>>,
}

/// A command that was begun and is not done.
#[derive(Debug)]
pub(super) struct Running {
    /// A transaction's compares held; always true otherwise.
    succeeded: bool,
    /// Something was changed.
    changed: bool,
    ops_done: usize,
    /// How far the operation after those was done.
    op: RunningOp,
    /// An answer is made: somebody waited for it when the command was begun, or it is kept.
    is_wanted: bool,
    /// The answer grew over the limit.
    is_over: bool,
}

impl Running {
    /// Goes on with the answer in `out`, or begins it there.
    fn write<'a>(&self, out: &'a mut Vec<u8>, bytes_limit: usize) -> ResponseWriter<'a> {
        if out.is_empty() {
            return ResponseWriter::begin(out, bytes_limit);
        }
        let ops_count = self.ops_done + usize::from(self.op.place.is_some());
        let ops_count = u32::try_from(ops_count).expect("fewer than 2^32 operations");
        ResponseWriter::resume(out, 0, ops_count, bytes_limit)
    }
}

/// How far an operation was done.
#[derive(Debug, Default)]
struct RunningOp {
    /// Where its answer begins, if it has one.
    place: Option<usize>,
    /// Where a delete goes on; `None` = not begun.
    next_key: Option<Vec<u8>>,
    deleted_count: u64,
    /// How far a range was read.
    visit: Visit,
}

fn ops_of<'a>(command: &'a Command<'a>, succeeded: bool) -> &'a [Op<'a>] {
    match command {
        Command::Op(op) => std::slice::from_ref(op),
        Command::Txn(Txn { success, .. }) if succeeded => success,
        Command::Txn(Txn { failure, .. }) => failure,
    }
}

impl StateMachine {
    /// Begins a command, or goes on with the one that is running, and writes its answer, if one is wanted. `None` if the budget did
    /// not last to its end: the same command goes on the next time, with the same bytes in `out`.
    ///
    /// # Errors
    /// It is refused; nothing was done.
    pub(super) fn go_on(
        &mut self,
        command: &Command<'_>,
        out: Option<&mut Vec<u8>>,
        budget: &mut Budget,
        mut on_change: OnChange<'_>,
    ) -> Result<Option<Done>, CommandRefused> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.begin(command, out.is_some(), budget)?,
        };
        let mut writer = out.map(|out| running.write(out, self.cursor.answer_bytes_limit));
        assert!(writer.is_some() == running.is_wanted, "an answer that was begun is gone on with");
        // A transaction takes the next revision only if it changes something.
        let revision = self.revision.next();
        let ops = ops_of(command, running.succeeded);
        assert!(running.ops_done <= ops.len(), "a command that runs goes on as the same command");
        while let Some(op) = ops.get(running.ops_done) {
            let is_done = self.step(op, revision, &mut running, &mut writer, budget, &mut on_change);
            if is_done {
                running.ops_done += 1;
                running.op = RunningOp::default();
            }
            if running.ops_done < ops.len() && (!is_done || budget.is_spent()) {
                let is_whole = writer.is_none_or(|writer| writer.finish(self.revision.get(), running.succeeded));
                running.is_over |= !is_whole;
                assert!(budget.is_spent(), "a command stops where its budget ends");
                self.running = Some(running);
                return Ok(None);
            }
        }
        if running.changed {
            assert!(revision > self.revision, "what changes something makes a revision");
            self.revision = revision;
        }
        let is_whole = writer.is_none_or(|writer| writer.finish(self.revision.get(), running.succeeded));
        Ok(Some(Done { changed: running.changed, is_whole: is_whole && !running.is_over }))
    }

    fn begin(&self, command: &Command<'_>, is_wanted: bool, budget: &mut Budget) -> Result<Running, CommandRefused> {
        let succeeded = match command {
            Command::Op(_) => true,
            Command::Txn(Txn { compares, .. }) => {
                budget.spend(0, compares.len() as u64);
                let holds = compares.iter().all(|compare| self.holds(compare));
                mark!("state machine: a compare does not hold" if !holds);
                holds
            }
        };
        self.check(ops_of(command, succeeded), budget)?;
        Ok(Running { succeeded, changed: false, ops_done: 0, op: RunningOp::default(), is_wanted, is_over: false })
    }

    /// Decides, before anything of a command is done, whether all of it can be; as in etcd, for the branch that is taken. Looks at
    /// the command and the state alone: every replica must come to the same.
    fn check(&self, ops: &[Op<'_>], budget: &mut Budget) -> Result<(), CommandRefused> {
        let limit = self.options.command_keys_limit;
        let mut keys_count = 0;
        for op in ops {
            let range = match op {
                // The revision that the transaction itself makes does not exist yet either.
                Op::Range(range) if range.revision > self.revision.get() => {
                    let (asked, current) = (Revision::new(range.revision), self.revision);
                    mark!("state machine: a transaction reads a revision that does not exist");
                    return Err(CommandRefused::FutureRevision { asked, current });
                }
                Op::Range(range) => Some(&range.range),
                Op::Delete { range, .. } => Some(range),
                Op::Put { .. } => None,
            };
            keys_count += match range {
                Some(range) if !range.is_single() => {
                    self.sections.keys.count_visits(range, limit + 1 - keys_count.min(limit))
                }
                _ => 1,
            };
        }
        budget.spend(0, keys_count / COUNTED_PER_VISIT);
        if keys_count > limit {
            mark!("state machine: a command visits too many keys");
            return Err(CommandRefused::TooManyKeys { limit });
        }
        Ok(())
    }

    /// Does the next operation, or a part of it, at least a key's worth; says whether it is done.
    fn step(
        &mut self,
        op: &Op<'_>,
        revision: Revision,
        running: &mut Running,
        writer: &mut Option<ResponseWriter<'_>>,
        budget: &mut Budget,
        on_change: &mut OnChange<'_>,
    ) -> bool {
        let at = &mut running.op;
        if at.place.is_none() {
            at.place = writer.as_mut().map(ResponseWriter::begin_op);
        }
        let mut answer = at.place.zip(writer.as_mut());
        match op {
            Op::Put { key, value, lease, prev_kv } => {
                if let Some((place, writer)) = &mut answer {
                    let previous = if *prev_kv { self.sections.keys.get(key, LATEST) } else { None };
                    if let Some(kv) = &previous {
                        writer.kv(kv);
                    }
                    writer.end_op(*place, response::OP_PUT, false, u32::from(previous.is_some()), 0);
                }
                if let Some(on_change) = on_change {
                    let before = self.sections.keys.get(key, LATEST);
                    on_change(Made { revision, key, put: Some((value, *lease)), before });
                }
                self.sections.keys.put(key, value, *lease, revision);
                budget.spend(0, 1);
                running.changed = true;
                true
            }
            Op::Delete { range, prev_kv } => {
                let from = at.next_key.take();
                let (deleted_count, next_key) =
                    self.sections.keys.delete(range, from.as_deref(), revision, budget, |kv| {
                        if let Some(on_change) = on_change {
                            on_change(Made { revision, key: kv.key, put: None, before: Some(*kv) });
                        }
                        let Some((_, writer)) = answer.as_mut().filter(|_| *prev_kv) else { return 0 };
                        let before = writer.bytes_len();
                        writer.kv(kv);
                        writer.bytes_len() - before
                    });
                assert!(next_key.is_none() || budget.is_spent(), "a delete stops where its budget ends");
                at.deleted_count += deleted_count;
                at.next_key = next_key;
                running.changed |= deleted_count > 0;
                if at.next_key.is_some() {
                    return false;
                }
                if let Some((place, writer)) = answer {
                    let kvs_count = if *prev_kv { at.deleted_count } else { 0 };
                    let kvs_count = u32::try_from(kvs_count).expect("fewer than 2^32 keys");
                    writer.end_op(place, response::OP_DELETE, false, kvs_count, at.deleted_count);
                }
                true
            }
            Op::Range(range) => {
                let Some((place, writer)) = answer else { return true };
                let asked = Revision::new(range.revision);
                let as_of = if range.revision == 0 || asked > self.revision { LATEST } else { asked };
                let is_done = self.visit_slice(range, as_of, &mut at.visit, writer, budget);
                if is_done {
                    at.visit.finish(range, place, writer);
                }
                is_done
            }
        }
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let found = self.sections.keys.get(compare.key, LATEST);
        let number = |of: fn(&KvView<'_>) -> u64| found.as_ref().map_or(0, of);
        let ordering = match compare.target {
            CompareTarget::Version(operand) => number(|kv| kv.version).cmp(&operand),
            CompareTarget::CreateRevision(operand) => number(|kv| kv.create_revision).cmp(&operand),
            CompareTarget::ModRevision(operand) => number(|kv| kv.mod_revision).cmp(&operand),
            CompareTarget::Lease(operand) => number(|kv| kv.lease).cmp(&operand),
            // As in etcd: a key that is not there has no value to compare.
            CompareTarget::Value(operand) => match &found {
                Some(kv) => kv.value.cmp(operand),
                None => return false,
            },
        };
        compare.result.holds(ordering)
    }
}
