//! Clients of a core that do not take their answers: who loses its connection when what waits for them takes the room of others.
//!
//! Nobody is closed for being slow as long as there is room. While a core is crowded, those go that took next to nothing for a while,
//! whoever holds most of them first, until it is crowded no more. So clients that ask and do not read never take the service from
//! those that do. Knows no sockets and no shards.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::client_conn::ClientConn;
use super::gateway::Gateway;
use super::limits::{CORE_CROWDED_BYTES, HELD_CROWDED_BYTES, SLOW_AFTER, SLOW_LOOK_PAUSE};
use super::metrics::NodeMetrics;
use super::said::{Complaint, Said};

/// What a client leaves untaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Untaken {
    /// Answers. Unit: bytes.
    answer_bytes: usize,
    /// Reads that are held back meanwhile. Unit: bytes.
    held_bytes: usize,
    /// It has taken next to nothing for so long.
    since: Duration,
}

/// Closes slow clients of a core while it is crowded, and keeps the figures of what waits for its clients, for ever.
pub(super) async fn watch(gateway: Rc<Gateway>, metrics: Arc<NodeMetrics>) {
    let said = Said::default();
    let (mut shown_bytes, mut shown_count) = (0, 0);
    let mut looked_at = Instant::now();
    loop {
        glommio::timer::sleep(SLOW_LOOK_PAUSE).await;
        gateway.taking_time().look(std::mem::replace(&mut looked_at, Instant::now()).elapsed());
        let (answer_bytes, held_bytes) = gateway.untaken_bytes();
        let held_back_count = gateway.held_back_count();
        metrics.client_reads_held_back.inc_by(held_back_count - std::mem::replace(&mut shown_count, held_back_count));
        let shown = metrics.client_answer_bytes.inner();
        shown.fetch_add(answer_bytes as u64, Ordering::Relaxed);
        shown.fetch_sub(std::mem::replace(&mut shown_bytes, answer_bytes as u64), Ordering::Relaxed);
        let is_crowded = is_crowded(answer_bytes, held_bytes);
        if !is_crowded && held_bytes == 0 {
            continue;
        }
        let conns = gateway.conns();
        if is_crowded {
            if let Some(left_out) = said.may_say(Complaint::ClientsCrowded) {
                let message =
                    "clients do not take their answers: reads of whoever has its share of what waits are held back";
                tracing::warn!(answer_bytes, held_bytes, left_out, "{message}");
            }
            close_slow(&conns, (answer_bytes, held_bytes), &metrics, &said);
        }
        // What waits for room on the core hears of it here alone.
        conns.iter().filter(|conn| conn.held_bytes() > 0).for_each(|conn| conn.writer().look_again());
    }
}

const fn is_crowded(answer_bytes: usize, held_bytes: usize) -> bool {
    answer_bytes > CORE_CROWDED_BYTES || held_bytes > HELD_CROWDED_BYTES
}

fn close_slow(conns: &[Rc<ClientConn>], core_bytes: (usize, usize), metrics: &NodeMetrics, said: &Said) {
    let untaken = conns.iter().map(|conn| {
        let (answer_bytes, since) = conn.untaken();
        Untaken { answer_bytes, held_bytes: conn.held_bytes(), since }
    });
    let untaken: Vec<Untaken> = untaken.collect();
    for number in too_slow(&untaken, core_bytes) {
        let (conn, Untaken { answer_bytes, held_bytes, since }) = (&conns[number], untaken[number]);
        conn.close_as_slow();
        metrics.client_connections_slow.inc();
        if let Some(left_out) = said.may_say(Complaint::SlowClient) {
            let address = conn.address();
            tracing::warn!(
                %address, answer_bytes, held_bytes, ?since, left_out,
                "closed a client connection: it does not take its answers, and other clients need the room"
            );
        }
    }
}

/// Who loses its connection, by its place, while so many bytes of answers and of held reads wait on the core.
fn too_slow(untaken: &[Untaken], (mut answer_bytes, mut held_bytes): (usize, usize)) -> Vec<usize> {
    let mut slow: Vec<usize> = (0..untaken.len()).filter(|number| untaken[*number].since >= SLOW_AFTER).collect();
    slow.sort_by_key(|number| std::cmp::Reverse((untaken[*number].answer_bytes, untaken[*number].held_bytes)));
    let is_needed = |number: &usize| {
        let is_needed = is_crowded(answer_bytes, held_bytes);
        answer_bytes = answer_bytes.saturating_sub(untaken[*number].answer_bytes);
        held_bytes = held_bytes.saturating_sub(untaken[*number].held_bytes);
        is_needed
    };
    slow.into_iter().take_while(is_needed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    const fn untaken(answer_mib: usize, held_kib: usize, since_ms: u64) -> Untaken {
        Untaken { answer_bytes: answer_mib * MIB, held_bytes: held_kib << 10, since: Duration::from_millis(since_ms) }
    }

    #[test]
    fn while_a_core_is_crowded_those_go_that_take_nothing_and_hold_most_until_it_is_crowded_no_more() {
        let clients = [
            untaken(60, 0, 1_999), // takes some now and then
            untaken(20, 0, 2_000),
            untaken(1, 0, 60_000),
            untaken(40, 0, 2_000),
            untaken(30, 0, 9_000),
        ];
        let crowded = CORE_CROWDED_BYTES;
        for (core_bytes, gone) in [
            (crowded, &[][..]),
            (crowded + 1, &[3]),
            (crowded + 40 * MIB, &[3]),
            (crowded + 40 * MIB + 1, &[3, 4]),
            (crowded + 91 * MIB, &[3, 4, 1, 2]),
            (usize::MAX, &[3, 4, 1, 2]),
        ] {
            assert_eq!(too_slow(&clients, (core_bytes, 0)), gone, "{core_bytes} bytes of answers wait");
        }
    }

    #[test]
    fn held_reads_crowd_a_core_as_well() {
        let clients = [untaken(1, 0, 5_000), untaken(2, 64, 5_000), untaken(0, 64, 0), untaken(2, 32, 5_000)];
        assert!(too_slow(&clients, (4 * MIB, HELD_CROWDED_BYTES)).is_empty());
        assert_eq!(too_slow(&clients, (4 * MIB, HELD_CROWDED_BYTES + 1)), [1]);
        assert_eq!(too_slow(&clients, (4 * MIB, HELD_CROWDED_BYTES + (64 << 10) + 1)), [1, 3]);
    }
}
