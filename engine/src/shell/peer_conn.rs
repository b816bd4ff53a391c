//! A peer's connection: its messages go to the replica as they come.

use std::rc::Rc;

use futures_lite::FutureExt;
use net::deframer::Deframer;
use net::shell::Stream;

use super::classes::Slice;
use super::incoming::OpenedConnection;
use super::limits::PEERS_PARTIAL_BYTES_MAX;
use super::partial::{Arrived, Partial, Partials};
use super::said::Complaint;
use super::shard::Shard;
use crate::replica::Lane;
use crate::types::NodeId;
use crate::wire::{self, Incoming};

/// What counts the incomplete messages of a core's peers. Two of the largest have room.
pub fn partials(body_bytes_max: u64) -> Rc<Partials> {
    Partials::new(usize::try_from(PEERS_PARTIAL_BYTES_MAX.max(2 * body_bytes_max)).unwrap_or(usize::MAX))
}

/// Serves a connection past its handshake until it ends. Nothing is written to it.
pub async fn serve(
    mut stream: Stream,
    shard: Rc<Shard>,
    from: NodeId,
    lane: Lane,
    body_bytes_max: u64,
    partial: Partial,
) {
    let OpenedConnection { number, replaced, .. } = shard.incoming_opened(from, lane);
    let until_replaced = async {
        // Nothing is sent: it ends.
        let _ended = replaced.recv().await;
        Ended::ByItself("the peer opened a newer one, or is no member any more".to_owned())
    };
    match read_frames(&mut stream, &shard, from, body_bytes_max, &partial).or(until_replaced).await {
        Ended::ByItself(reason) => {
            if let Some(left_out) = shard.may_say(Complaint::Link) {
                tracing::debug!(shard = shard.id().get(), %from, %reason, left_out, "a peer's connection ended");
            }
        }
        Ended::ForFrame(error) => {
            shard.count_damaged_frame();
            if let Some(left_out) = shard.may_say(Complaint::PeerFrame) {
                tracing::warn!(shard = shard.id().get(), %from, ?lane, %error, left_out, "closed a peer's connection");
            }
        }
    }
    shard.incoming_closed(from, lane, number);
}

/// Why a connection ended.
enum Ended {
    /// The peer closed it, or it broke.
    ByItself(String),
    /// What came was no sound frame, or one of another shard.
    ForFrame(String),
}

/// Delivers frames until the connection ends; says why it did.
async fn read_frames(
    stream: &mut Stream,
    shard: &Rc<Shard>,
    from: NodeId,
    body_bytes_max: u64,
    partial: &Partial,
) -> Ended {
    let mut deframer = Deframer::new(usize::try_from(body_bytes_max).unwrap_or(usize::MAX));
    let slice = Slice::default();
    loop {
        let mut is_new = false;
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    is_new = true;
                    let bytes = frame.meta.len() + frame.rest.len();
                    match wire::decode_for(shard.id(), &frame) {
                        Ok(incoming) => shard.on_peer(from, incoming),
                        Err(error) => return Ended::ForFrame(error.to_string()),
                    }
                    slice.spend(bytes).await;
                }
                Ok(None) => break,
                Err(error) => return Ended::ForFrame(error.to_string()),
            }
        }
        match partial.read(stream, &mut deframer, is_new).await {
            Ok(Arrived::End) => return Ended::ByItself("the peer closed it".to_owned()),
            Ok(Arrived::Bytes) => slice.look().await,
            Ok(Arrived::GivenUp(why)) => return Ended::ByItself(why.to_string()),
            Err(error) => return Ended::ByItself(error.to_string()),
        }
    }
}

impl Shard {
    /// Hands a peer's message to the replica.
    fn on_peer(self: &Rc<Self>, from: NodeId, incoming: Incoming<'_>) {
        self.deliver(incoming.into_event(from));
    }
}
