//! Planted bugs, to see whether the simulator finds them. Without the feature `mutations` none of this is in the product:
//! `is` is then the constant `false`.
//!
//! Each bug is one that a plausible change could bring in. At most one is switched on at a time in a thread.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A follower acknowledges what arrived, not what is durable.
    AcknowledgeBeforeSync,
    /// A leader counts its own log before its disk has it.
    CountOwnDiskEarly,
    /// Term and vote are not written to the log.
    ForgetVote,
    /// A vote may be given to several candidates of a term.
    VoteTwice,
    /// A vote is given to a candidate whose log lacks entries.
    VoteForShortLog,
    /// A leader commits entries of earlier terms by counting.
    CommitOldTermByCount,
    /// Half of the nodes are a quorum.
    QuorumOfHalf,
    /// Entries from the wire are not checked against their checksums.
    SkipEntryChecksum,
    /// A node applies what it has, committed or not.
    ApplyBeforeCommit,
    /// A follower takes the leader's commit index for entries that it never compared.
    CommitUnmatched,
    /// A follower appends without comparing what comes before.
    SkipLogMatching,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound,
    /// A new leader answers reads before it knows what is committed.
    ReadBeforeOwnTermCommits,
    /// An answer to a heartbeat of an earlier term repeats its round.
    OldRoundConfirms,
    /// What was in flight when a connection broke is not sent again.
    LoseInflightOnReconnect,
    /// Messages that promise something leave before it is durable.
    PromiseBeforeDurable,
    /// A failed sync is taken for a completed one.
    IgnoreFailedSync,
    /// A node that finds durable entries damaged goes on with what is left.
    CutDurableDamage,
    /// A node under repair votes.
    VoteUnderRepair,
    /// A node counts as repaired before it has everything back.
    RepairEndsEarly,
    /// A node whose vote may be lost takes entries before every other node told its term.
    RepairForgetsVote,
    /// A write of unknown outcome is tried again.
    RetryUnknownWrite,
    /// A follower that once had no room for entries is sent none any more.
    NoRoomForGood,
    /// Entries that found no room on the connection count as sent.
    AppendDroppedCountsAsSent,
    /// A write that waited too long is refused as not executed, and proposed all the same.
    QueuedWriteRefusedButProposed,
    /// A read that goes on after a turn sees what was written meanwhile.
    SlicedReadSeesLater,
    /// What is left of a node's turn decides whether a command visits too many keys.
    BudgetDecidesOutcome,
    /// A transaction that reads at a revision which does not exist yet is done all the same.
    TxnFutureReadApplies,
    /// A leader tells its successor to take over while a batch is being formed, which is appended afterwards.
    TransferWithOpenBatch,
    /// Leadership is handed to a node under repair.
    TransferToRepairing,
    /// A leader that hands over refuses the writes of its open batch, which it appends all the same.
    RefusedThoughAppended,
    /// A node lets a leader cut what it knows to be committed.
    CutBelowCommitted,
    /// A node notes what is in its log as committed, whether it is or not.
    NoteAheadOfCommit,
    /// A node that started answers serializable reads before it has applied what it had applied before.
    SerializableBeforeReplay,
    /// A node votes before it knows whether it ever promised anything.
    NewNodeVotes,
    /// A new node founds the cluster although another one knows an earlier incarnation of it.
    FounderIgnoresMismatch,
    /// A new node founds the cluster when a majority has answered.
    FoundsWithoutEveryone,
    /// A node that takes the place of one that lost its data trusts its own term and vote.
    ReplacedKeepsCertainHardState,
    /// A leader goes on believing that a node has what it says it lost.
    BelievesWhatWasLost,
}

impl Mutation {
    /// It takes thousands of seeds to find: several rare things must coincide.
    #[must_use]
    pub const fn is_rare(self) -> bool {
        matches!(
            self,
            Self::CommitOldTermByCount
                | Self::ReadWithoutRound
                | Self::OldRoundConfirms
                | Self::PromiseBeforeDurable
                | Self::RepairEndsEarly
        )
    }

    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::AcknowledgeBeforeSync,
        Self::CountOwnDiskEarly,
        Self::ForgetVote,
        Self::VoteTwice,
        Self::VoteForShortLog,
        Self::CommitOldTermByCount,
        Self::QuorumOfHalf,
        Self::SkipEntryChecksum,
        Self::ApplyBeforeCommit,
        Self::CommitUnmatched,
        Self::SkipLogMatching,
        Self::ReadWithoutRound,
        Self::ReadBeforeOwnTermCommits,
        Self::OldRoundConfirms,
        Self::LoseInflightOnReconnect,
        Self::PromiseBeforeDurable,
        Self::IgnoreFailedSync,
        Self::CutDurableDamage,
        Self::VoteUnderRepair,
        Self::RepairEndsEarly,
        Self::RepairForgetsVote,
        Self::RetryUnknownWrite,
        Self::NoRoomForGood,
        Self::AppendDroppedCountsAsSent,
        Self::QueuedWriteRefusedButProposed,
        Self::SlicedReadSeesLater,
        Self::BudgetDecidesOutcome,
        Self::TxnFutureReadApplies,
        Self::TransferWithOpenBatch,
        Self::TransferToRepairing,
        Self::RefusedThoughAppended,
        Self::CutBelowCommitted,
        Self::NoteAheadOfCommit,
        Self::SerializableBeforeReplay,
        Self::NewNodeVotes,
        Self::FounderIgnoresMismatch,
        Self::FoundsWithoutEveryone,
        Self::ReplacedKeepsCertainHardState,
        Self::BelievesWhatWasLost,
    ];
}

#[cfg(feature = "mutations")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Switches a bug on in this thread, or all off.
#[cfg(feature = "mutations")]
pub fn plant(mutation: Option<Mutation>) {
    PLANTED.set(mutation);
}

/// Whether this bug is switched on in this thread.
#[cfg(feature = "mutations")]
#[must_use]
pub fn is(mutation: Mutation) -> bool {
    PLANTED.get() == Some(mutation)
}

/// Whether this bug is switched on: never.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub(crate) const fn is(_mutation: Mutation) -> bool {
    false
}
