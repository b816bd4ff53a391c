//! Writes down what happens in a cluster, one line each, for transcripts.

use engine::raft::{AppendOutcome, Message, Raft, Role};
use engine::types::{NodeId, Term};

use crate::cluster::Packet;

/// Lines written since they were last taken; none while it is off.
#[derive(Debug, Default)]
pub struct Trace {
    pub is_on: bool,
    lines: String,
}

impl Trace {
    pub fn line(&mut self, line: impl AsRef<str>) {
        if self.is_on {
            self.lines.push_str(line.as_ref());
            self.lines.push('\n');
        }
    }

    pub fn packet(&mut self, verb: &str, packet: &Packet) {
        if self.is_on {
            let text = describe(&packet.message);
            self.line(format!("{verb} {}->{} {text}", packet.from.get(), packet.to.get()));
        }
    }

    /// Says what a node is in its term, if that has changed since it was `before`.
    pub fn became(&mut self, node: NodeId, before: Leadership, raft: &Raft) -> Leadership {
        let now @ (role, term, leader) = leadership(raft);
        if self.is_on && now != before {
            let leader = leader.map_or("nobody".to_owned(), |leader| leader.get().to_string());
            self.line(format!("{} is {} in term {term}, led by {leader}", node.get(), role_name(role)));
        }
        now
    }

    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.lines)
    }
}

/// A node's role, its term, and the term's leader.
pub type Leadership = (Role, Term, Option<NodeId>);

pub fn leadership(raft: &Raft) -> Leadership {
    (raft.role(), raft.term(), raft.leader())
}

pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn describe(message: &Message) -> String {
    match message {
        Message::RequestPreVote { term, last } => format!("RequestPreVote for term {term}, log ends {last}"),
        Message::PreVoteResponse { term, campaign_term, granted } => {
            format!("PreVoteResponse {} for term {campaign_term}, in term {term}", yes(*granted))
        }
        Message::RequestVote { term, last, transfer } => {
            let reason = if *transfer { ", as asked by the leader" } else { "" };
            format!("RequestVote term {term}, log ends {last}{reason}")
        }
        Message::RequestVoteResponse { term, granted } => format!("RequestVoteResponse {} term {term}", yes(*granted)),
        Message::AppendEntries(append) => format!(
            "AppendEntries term {}, behind {}: {}, commit {}",
            append.term,
            append.prev,
            if append.last < append.first { "none".to_owned() } else { format!("{}..{}", append.first, append.last) },
            append.commit_index
        ),
        Message::AppendEntriesResponse { term, outcome, .. } => {
            format!("AppendEntriesResponse term {term}, {}", describe_outcome(outcome))
        }
        Message::Heartbeat { term, life: _, commit_index, round } => {
            format!("Heartbeat term {term}, commit {commit_index}, round {round}")
        }
        Message::HeartbeatResponse { term, life: _, round, matched_index, persisted_index, lineage: _, health } => {
            let ailments =
                [(health.may_lead, "may not lead"), (health.has_room, "no room"), (health.disk_keeps_up, "slow disk")];
            let ailments: String =
                ailments.iter().filter(|(is_well, _)| !is_well).map(|(_, ailment)| format!(", {ailment}")).collect();
            format!(
                "HeartbeatResponse term {term}, round {round}, matched {matched_index}, persisted {persisted_index}, applied {}{ailments}",
                health.applied_index
            )
        }
        Message::TimeoutNow { term, last_index } => format!("TimeoutNow term {term} at {last_index}"),
        Message::RepairRequest { term, nonce, last, .. } => {
            format!("RepairRequest term {term} life {nonce} last {last}")
        }
        Message::RepairResponse { term, life: _, nonce, last_index, .. } => {
            format!("RepairResponse term {term} life {nonce} last {last_index}")
        }
        Message::BirthRequest { incarnation, .. } => format!("BirthRequest {incarnation:x}"),
        Message::BirthResponse { asked, incarnation, answer, .. } => {
            format!("BirthResponse to {asked:x} of {incarnation:x}: {answer:?}")
        }
        Message::ReadIndexRequest { term, life, batch, .. } => {
            format!("ReadIndexRequest term {term} life {life} question {batch}")
        }
        Message::ReadIndexResponse { term, life, batch, index } => {
            format!("ReadIndexResponse term {term} life {life} question {batch}: {index}")
        }
        Message::Outdated { incarnation, since, .. } => format!("Outdated, entry {since} named {incarnation:x}"),
    }
}

fn describe_outcome(outcome: &AppendOutcome) -> String {
    match outcome {
        AppendOutcome::Accepted { matched_index, persisted_index, lineage: _ } => {
            format!("matched {matched_index}, persisted {persisted_index}")
        }
        AppendOutcome::NoRoom { matched_index, persisted_index, lineage: _ } => {
            format!("no room, matched {matched_index}, persisted {persisted_index}")
        }
        AppendOutcome::Damaged { matched_index, persisted_index, lineage: _ } => {
            format!("damaged, matched {matched_index}, persisted {persisted_index}")
        }
        AppendOutcome::Rejected { prev_index, hint } => format!("rejected behind {prev_index}, try {hint}"),
        AppendOutcome::OtherHistory { entry, lineage } => format!("another history at {entry}, lineage {lineage}"),
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}
