//! What goes into a replica (`Event`) and what comes out of it (`Action`).
//!
//! Plain data. Nothing here knows of sockets, files, clocks or threads; time is `Event::Tick`.

use std::collections::BTreeSet;
use std::ops::Range;

use wal::{SegmentSeq, SyncFailure, SyncId, SyncRequest};

use crate::call::{Call, Origin, Part, Ticket};
use crate::entries_error::EntriesError;
use crate::raft::{
    AddLearnerError, AppendEntries, BirthRecord, LeadershipStep, Message, Nonsense, Speaker, TransferError,
};
use crate::types::{Index, NodeId};

/// Something that happened to a replica, or that whoever drives it wants of it. `P` is a prepared segment as the log's storage
/// takes it.
#[derive(Debug)]
pub enum Event<'a, P = SegmentSeq> {
    /// One tick of time passed.
    Tick,
    /// Everything that had arrived was delivered: close the batch, apply, ask for a sync.
    Turn,
    /// Somebody asks for something.
    Call {
        /// Who waits for the answer.
        origin: Origin,
        /// What is asked for.
        call: Call<'a>,
    },
    /// A peer's message, without entries.
    Message {
        /// The sender, as its connection's handshake established it.
        from: NodeId,
        /// The log that it speaks for.
        speaker: Speaker,
        /// The message.
        message: Message,
    },
    /// A peer's `AppendEntries` with entries as they stand in its log.
    Append {
        /// The sender.
        from: NodeId,
        /// The log that it speaks for.
        speaker: Speaker,
        /// Term, position and commit index.
        append: AppendEntries,
        /// Entries, header and payload each, back to back. Not yet verified.
        entries: &'a [u8],
    },
    /// The clients that waited for the answers to these calls are gone. The tickets are in ascending order. Reads among the calls that
    /// were not passed on are refused; writes are not touched.
    Left(&'a [Ticket]),
    /// The leader's answer to a call that this node passed on.
    RelayReply {
        /// Who answered.
        from: NodeId,
        /// This node's number for the call.
        number: u64,
        /// The next part of its answer.
        part: Part<&'a [u8]>,
    },
    /// A call to be passed on was not taken by its lane: it did not leave this node.
    RelayDropped {
        /// This node's number for the call.
        number: u64,
        /// Why.
        why: NotTaken,
    },
    /// The answer to a call that a peer passed on was not taken by its lane: it did not leave this node.
    ReplyDropped {
        /// The peer.
        to: NodeId,
        /// Its number for the call.
        number: u64,
        /// Why.
        why: NotTaken,
    },
    /// An `AppendEntries` was not taken by its lane: it did not leave this node.
    AppendDropped {
        /// The follower.
        to: NodeId,
        /// The entry before the first that it carried.
        prev_index: Index,
        /// Why.
        why: NotTaken,
    },
    /// A lane that was full has room again.
    LaneHasRoom {
        /// The peer.
        to: NodeId,
        /// Which.
        lane: Lane,
    },
    /// Entries for a peer still wait in their lane. To be told once in a tick, before the tick: what waits here is not lost on its way.
    EntriesWait {
        /// The peer.
        to: NodeId,
    },
    /// A peer speaks on a new connection of a lane, and the end of the old one was not noticed before.
    LaneReplaced {
        /// The peer.
        from: NodeId,
        /// Which.
        lane: Lane,
    },
    /// All lanes to a peer are up, and all of its lanes to this node.
    PeerConnected(NodeId),
    /// A connection to or from a peer broke.
    PeerDisconnected(NodeId),
    /// A sync that an `Action::Sync` asked for has ended.
    Synced {
        /// Which.
        id: SyncId,
        /// How.
        result: Result<(), SyncFailure>,
    },
    /// The sync that an `Action::SyncNote` asked for has ended.
    NoteSynced(Result<(), SyncFailure>),
    /// The segment that an `Action::PrepareSegment` asked for.
    SegmentPrepared(P),
    /// The segment could not be prepared; the shell will try again. The text says why, for refusals.
    SegmentUnavailable(String),
    /// What an `Action::Load` asked for is in memory, or cannot be read.
    Loaded {
        /// The first entry.
        first: Index,
        /// The last entry.
        last: Index,
        /// What the system said, if the device failed.
        result: Result<(), String>,
    },
    /// The state of now is to be kept beside the log, if the log has all of it durably
    /// ([`Replica::state_to_keep`](super::Replica::state_to_keep)). From here on
    /// [`Replica::state_being_kept`](super::Replica::state_being_kept) tells what to read, slice by slice.
    KeepState,
    /// The state that was being kept is beside the log, durably, so that a start needs no entry up to it.
    StateKept,
    /// What `Action::FinishRepair` asked for is durable.
    RepairFinished,
    /// The log's files are not where the next start will look for them. The text says what is where. Ends the replica.
    LogNotInPlace(String),
    /// What `Action::PersistBirth` asked for is durable.
    BirthPersisted,
    /// Somebody asks this node to hand leadership over to another. What comes of it is told.
    Transfer {
        /// Who is to lead.
        to: NodeId,
    },
    /// A node is to become a learner: it gets all entries and has no vote. Its log is the one with this incarnation.
    ///
    /// `Replica::membership` says whether it is one. A leader that loses its office forgets what it was asked for, so ask again.
    AddLearner {
        /// The node.
        node: NodeId,
        /// Incarnation of its log, as its record says.
        incarnation: u64,
    },
    /// The node is going to stop in order: look for another leader until there is one. Requests are still taken, and go to the
    /// next leader once it is known. Once is enough.
    HandOver,
    /// From here on refuse every new request. What was taken before still gets its answer.
    Close,
    /// Make the note durable (the small file beside the log that says what is committed, `wal::Noted`), for a stop that is in no hurry.
    /// `Replica::is_settled` says when that is done.
    Settle,
    /// The process ends: everything that waits is refused.
    Stop,
}

/// Why a lane did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// There is no connection. `Event::PeerConnected` tells when there is one.
    NoConnection,
    /// So much waits in the lane that the credit of its class is used up. `Event::LaneHasRoom` tells when some of it has left.
    NoCredit,
    /// It has no bytes: an entry could not be read from the log, or is not in it any more.
    NotEncoded,
}

impl<P> Event<'_, P> {
    /// What to tell a replica whose message was not taken by its lane to `to`. `None`: it needs not know, since the message is one
    /// of those that are sent again and again, and it is told when there is room.
    #[must_use]
    pub const fn of_unsent(to: NodeId, message: &Outgoing, why: NotTaken) -> Option<Self> {
        match message {
            Outgoing::Raft(Message::AppendEntries(append)) => {
                Some(Self::AppendDropped { to, prev_index: append.prev.index, why })
            }
            Outgoing::RelayCall { number, .. } => Some(Self::RelayDropped { number: *number, why }),
            // A refusal has room on every connection that is up.
            Outgoing::Raft(_) | Outgoing::RelayReply { reply: Reply { part: Part::Last(Err(_)), .. }, .. } => None,
            Outgoing::RelayReply { number, .. } => Some(Self::ReplyDropped { to, number: *number, why }),
        }
    }
}

/// Something a replica wants done.
#[derive(Debug)]
#[must_use = "a replica waits for what it asked for, and others wait for what it says"]
pub enum Action {
    /// Send a message to a peer; `Replica::encode` gives its bytes, and they must be taken before the next event.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to send.
        message: Outgoing,
    },
    /// Answer a call of this node.
    Reply {
        /// Which call.
        ticket: Ticket,
        /// The answer; `Replica::body` gives its bytes until the next event.
        reply: Reply,
    },
    /// Answer what this node asked for itself (`Origin::Internal`). The answer leaves the replica.
    OwnReply {
        /// Its number for the call.
        number: u64,
        /// The answer, as above.
        reply: Reply,
    },
    /// Sync this part of the log and report `Event::Synced`.
    Sync(SyncRequest),
    /// Sync the note beside the log and report `Event::NoteSynced`. Nothing waits for it.
    SyncNote,
    /// Prepare this segment, install it, and report `Event::SegmentPrepared`.
    PrepareSegment(SegmentSeq),
    /// Read these entries of the log into memory and report `Event::Loaded`, whatever comes of it.
    Load {
        /// The first entry.
        first: Index,
        /// The last entry.
        last: Index,
    },
    /// The log dropped segments that nothing needs any more: remove their files (`wal::LogDevice::removing_dropped`). Nothing waits for it.
    RemoveDropped,
    /// The log holds again what this node lost: make it durable that it is under repair no more, and report
    /// `Event::RepairFinished`. Until then it goes on as a node under repair.
    FinishRepair,
    /// This node was new and learned what it is: make its new record durable, and report `Event::BirthPersisted`. A node that
    /// was replaced is marked as under repair before, durably, too, so that it never comes up as anything better.
    PersistBirth(BirthRecord),
    /// Keep connections to these nodes, and to no others: they are the other members, as the log says. Comes with the first event, and
    /// when that changes.
    Link(BTreeSet<NodeId>),
    /// Tell people. Nothing waits for it.
    Tell(Remark),
}

/// Something that people should know of, for the node's log.
#[derive(Debug)]
pub enum Remark {
    /// An `AppendEntries` was not taken, because its entries failed a check.
    CorruptAppend {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        error: EntriesError,
    },
    /// A message made no sense.
    Nonsense {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        error: Nonsense,
    },
    /// A step from one leader to the next.
    Leadership(LeadershipStep),
    /// Leadership does not go where `Event::Transfer` wants it.
    NoTransfer {
        /// Who was to lead.
        to: NodeId,
        /// Why it does not.
        error: TransferError,
    },
    /// A node does not become a learner as `Event::AddLearner` wants it.
    NoLearner(AddLearnerError),
}

/// A message to a peer.
#[derive(Debug)]
pub enum Outgoing {
    /// Raft's own; entries are read from the log when it is encoded.
    Raft(Message),
    /// A call on its way to the leader, which answers its kind.
    RelayCall {
        /// This node's number for it.
        number: u64,
        /// What is asked for, with what is left of its time.
        call: Call<'static>,
    },
    /// The answer to a call that the peer passed on.
    RelayReply {
        /// The peer's number for it.
        number: u64,
        /// The answer; its body lies in the replica's reply buffer.
        reply: Reply,
    },
}

/// A class of traffic between two nodes. Each has a connection of its own in each direction, and credits of its own: see
/// `docs/ARCHITECTURE.md`.
///
/// Heartbeats never queue behind entries, nor entries behind answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Votes, heartbeats, acknowledgements, rejections: small and urgent.
    Control,
    /// Entries. They are bounded by Raft's window.
    Bulk,
    /// Requests and answers that one node relays for another.
    Relay,
}

impl Lane {
    /// The lane that a message takes.
    #[must_use]
    pub const fn of(message: &Outgoing) -> Self {
        match message {
            Outgoing::Raft(Message::AppendEntries(_)) => Self::Bulk,
            Outgoing::Raft(_) => Self::Control,
            Outgoing::RelayCall { .. } | Outgoing::RelayReply { .. } => Self::Relay,
        }
    }
}

/// A part of the answer to a call.
#[derive(Debug)]
pub struct Reply {
    /// Where it lies in the replica's reply buffer, or why there is no answer.
    pub part: Part<Range<usize>>,
    /// The leader answered and this node passed it on: the client would have been quicker there.
    pub relayed: bool,
}
