//! Nodes that are told to stop: who leads instead.

use crate::cluster::{Cluster, config, node_id};
use crate::paper::{led_by_first, tick_all};

#[test]
fn a_node_that_is_going_to_stop_leads_only_if_nobody_else_does() {
    let leave = |cluster: &mut Cluster, at: usize| {
        cluster.with_raft(at, |raft, log| {
            let _successor = raft.hand_over_leadership(log);
        });
        cluster.settle();
    };
    // Both of a leader and the follower that would be its first choice get the signal, in either order.
    for order in [[1, 0], [0, 1]] {
        let mut cluster = led_by_first();
        cluster.propose(0, 3);
        cluster.settle();
        leave(&mut cluster, order[0]);
        tick_all(&mut cluster, 10);
        leave(&mut cluster, order[1]);
        tick_all(&mut cluster, 200);
        assert_eq!(cluster.leader(), Some(2), "{order:?}");
    }
    // The preferred leader does not get leadership back while it stops.
    let preferred_leader = Some(node_id(2));
    let mut cluster = Cluster::new(engine::raft::Config { preferred_leader, ..config(3) });
    tick_all(&mut cluster, 4);
    assert_eq!(cluster.leader(), Some(1));
    leave(&mut cluster, 1);
    tick_all(&mut cluster, 400);
    assert!(cluster.leader().is_some_and(|leader| leader != 1));
    // Nor by a death, while others are left.
    let leader = cluster.leader().expect("somebody leads");
    cluster.crash(leader, 0);
    cluster.disconnect(1, leader);
    cluster.disconnect(2 - leader, leader);
    tick_all(&mut cluster, 100);
    assert_eq!(cluster.leader(), Some(2 - leader));
    // All of them stop: one of those leads until it is gone.
    leave(&mut cluster, 2 - leader);
    tick_all(&mut cluster, 200);
    assert!(cluster.leader().is_some());
}
