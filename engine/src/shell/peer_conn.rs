//! A peer's connection: its messages go to the replica as they come.

use std::rc::Rc;

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;
use net::deframer::Deframer;

use super::shard::Shard;
use crate::types::NodeId;
use crate::wire::{self, Incoming};

/// Serves a connection past its handshake until it ends. Nothing is written to it.
pub async fn serve(mut stream: TcpStream, shard: Rc<Shard>, from: NodeId, body_bytes_max: u64) {
    shard.incoming_opened();
    let reason = read_frames(&mut stream, &shard, from, body_bytes_max).await;
    tracing::info!(shard = %shard.id(), %from, %reason, "a peer's connection ended");
    shard.incoming_closed(from);
}

/// Delivers frames until the connection ends; says why it did.
async fn read_frames(stream: &mut TcpStream, shard: &Rc<Shard>, from: NodeId, body_bytes_max: u64) -> String {
    let mut deframer = Deframer::new(usize::try_from(body_bytes_max).unwrap_or(usize::MAX));
    loop {
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => match wire::decode(&frame) {
                    Ok(incoming) => shard.on_peer(from, incoming),
                    Err(error) => return error.to_string(),
                },
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        match stream.read(deframer.space()).await {
            Ok(0) => return "the peer closed it".to_owned(),
            Ok(read) => deframer.advance(read),
            Err(error) => return error.to_string(),
        }
    }
}

impl Shard {
    /// Hands a peer's message to the replica.
    fn on_peer(self: &Rc<Self>, from: NodeId, incoming: Incoming<'_>) {
        self.deliver(incoming.into_event(from));
    }
}
