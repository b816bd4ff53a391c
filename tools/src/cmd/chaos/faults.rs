//! What can go wrong: names, how often, and what each needs of the machine.

use super::lab::Lab;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillOne,
    KillLeader,
    KillMajority,
    KillAll,
    StopOne,
    StopLeader,
    Damage,
    Wipe,
    CutOne,
    CutLeader,
    CutOutgoing,
    CutIncoming,
    CutPair,
    FillOne,
    FillLeader,
    SlowOne,
    SlowLeader,
    HangOne,
    PowerOne,
    PowerLeader,
    PowerMajority,
    PowerAll,
}

/// What a fault is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Processes,
    /// Files that stay as they were left: not where nodes lose their power.
    Files,
    Network,
    Disk,
    Freezing,
    Power,
}

/// Faults, their names in reports, how often each is chosen, and what it needs.
const FAULTS: [(Fault, &str, u64, Means); 22] = [
    (Fault::KillOne, "killed one node", 4, Means::Processes),
    (Fault::KillLeader, "killed the leader", 4, Means::Processes),
    (Fault::KillMajority, "killed a majority", 1, Means::Processes),
    (Fault::KillAll, "killed all nodes", 1, Means::Processes),
    (Fault::StopOne, "stopped one node", 3, Means::Processes),
    (Fault::StopLeader, "stopped the leader", 3, Means::Processes),
    (Fault::Damage, "damaged a node's log", 3, Means::Files),
    (Fault::Wipe, "wiped a node's data directory", 2, Means::Files),
    (Fault::CutOne, "cut one node off from the others", 3, Means::Network),
    (Fault::CutLeader, "cut the leader off from the others", 3, Means::Network),
    (Fault::CutOutgoing, "dropped what the leader sends to the others", 2, Means::Network),
    (Fault::CutIncoming, "dropped what the others send to the leader", 2, Means::Network),
    (Fault::CutPair, "cut two nodes off from each other", 2, Means::Network),
    (Fault::FillOne, "filled one node's disk", 2, Means::Disk),
    (Fault::FillLeader, "filled the leader's disk", 2, Means::Disk),
    (Fault::SlowOne, "slowed one node's disk down", 2, Means::Freezing),
    (Fault::SlowLeader, "slowed the leader's disk down", 2, Means::Freezing),
    (Fault::HangOne, "let one node's disk hang", 2, Means::Freezing),
    (Fault::PowerOne, "cut the power of one node", 4, Means::Power),
    (Fault::PowerLeader, "cut the leader's power", 4, Means::Power),
    (Fault::PowerMajority, "cut the power of a majority", 4, Means::Power),
    (Fault::PowerAll, "cut the power of all nodes", 6, Means::Power),
];

/// The faults that can be injected here.
pub(super) fn available(lab: &Lab) -> Vec<(Fault, &'static str, u64)> {
    let is_there = |means| match means {
        Means::Processes => true,
        Means::Files => lab.power.is_none(),
        Means::Power => lab.power.is_some(),
        Means::Network => lab.network.is_ok(),
        Means::Disk => lab.disks.is_ok(),
        Means::Freezing => lab.disks.as_ref().is_ok_and(super::disks::Disks::can_hang),
    };
    let mine = FAULTS.iter().filter(|(.., means)| is_there(*means));
    mine.map(|&(fault, name, weight, _)| (fault, name, weight)).collect()
}

impl Fault {
    /// True if it is done to whoever leads.
    pub(super) fn hits_leader(self) -> bool {
        matches!(
            self,
            Self::KillLeader
                | Self::StopLeader
                | Self::CutLeader
                | Self::CutOutgoing
                | Self::CutIncoming
                | Self::FillLeader
                | Self::SlowLeader
                | Self::PowerLeader
        )
    }
}
