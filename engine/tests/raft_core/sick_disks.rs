//! A leader whose disk is slow or full, and who takes over.

use engine::raft::Config;

use crate::cluster::{Cluster, config, node_id};
use crate::paper::{led_by_first, tick_all};

type Ail = fn(&mut Cluster, usize);

/// Its syncs hang, and it says so.
const HANGS: Ail = |cluster, at| (cluster.nodes[at].is_slow, cluster.nodes[at].disk_hangs) = (true, true);

/// There is no room for more.
const IS_FULL: Ail = |cluster, at| cluster.nodes[at].log_room = 0;

/// Time passes under load: with each tick the leader proposes something.
fn tick_under_load(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        if let Some(leader) = cluster.leader() {
            cluster.propose(leader, 1);
        }
        tick_all(cluster, 1);
    }
}

#[test]
fn a_leader_with_a_sick_disk_stays_while_the_others_are_no_quorum_without_it() {
    for ail in [HANGS, IS_FULL] {
        let mut cluster = led_by_first();
        ail(&mut cluster, 1);
        ail(&mut cluster, 0);
        tick_under_load(&mut cluster, 60);
        assert!(cluster.is_leader(0) && cluster.raft(0).may_propose().is_ok(), "one healthy node is no quorum");
    }
}

#[test]
fn a_leader_with_a_sick_disk_hands_over_if_the_others_are_a_healthy_quorum() {
    for ail in [HANGS, IS_FULL] {
        let mut cluster = led_by_first();
        ail(&mut cluster, 0);
        tick_under_load(&mut cluster, 10);
        let leader = cluster.leader().expect("somebody leads");
        assert_ne!(leader, 0);
        // Nor does it get leadership back while it is sick.
        cluster.transfer(leader, node_id(1));
        tick_under_load(&mut cluster, 20);
        assert_eq!(cluster.leader(), Some(leader));
    }
}

#[test]
fn a_leader_with_a_sick_disk_hands_over_although_another_disk_was_slow_lately() {
    for ail in [HANGS, IS_FULL] {
        let mut cluster = led_by_first();
        // It says so for long after. Its disk works again.
        cluster.nodes[1].is_slow = true;
        ail(&mut cluster, 0);
        tick_under_load(&mut cluster, 10);
        assert_eq!(cluster.leader(), Some(2), "the one that was not slow takes over");
        let committed = cluster.raft(2).commit_index();
        tick_under_load(&mut cluster, 10);
        assert!(cluster.raft(2).commit_index() > committed, "both others commit");
    }
}

#[test]
fn a_follower_that_had_everything_before_its_disk_was_slow_is_no_reason_to_hand_over() {
    for ail in [HANGS, IS_FULL] {
        let mut cluster = led_by_first();
        // Nothing was acknowledged since, so that nothing says that this disk works again.
        HANGS(&mut cluster, 1);
        tick_all(&mut cluster, 4);
        ail(&mut cluster, 0);
        tick_all(&mut cluster, 60);
        assert!(cluster.is_leader(0), "two sick disks of three");
        // It works again, and that shows with the next write.
        cluster.nodes[1].disk_hangs = false;
        tick_under_load(&mut cluster, 10);
        assert_eq!(cluster.leader(), Some(2));
    }
}

#[test]
fn a_preferred_leader_with_a_sick_disk_is_not_preferred() {
    let preferred_leader = Some(node_id(2));
    let mut cluster = Cluster::new(Config { preferred_leader, ..config(3) });
    tick_all(&mut cluster, 4);
    assert_eq!(cluster.leader(), Some(1));
    cluster.nodes[1].is_slow = true;
    tick_all(&mut cluster, 100);
    let leader = cluster.leader().expect("somebody leads");
    assert_ne!(leader, 1);
    cluster.nodes[1].is_slow = false;
    tick_all(&mut cluster, 100);
    assert_eq!(cluster.leader(), Some(1), "it has recovered");
}
