//! One client's connection: requests in, answers out, in any order.

use std::cell::Cell;
use std::rc::Rc;

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;
use net::api::{Executed, Refused, Request, RequestKind, Response, Status};
use net::deframer::Deframer;
use net::shell::ConnWriter;

use super::gateway::Gateway;
use super::status::StatusBoard;

/// While so many bytes of answers wait for a client, its next requests are not read. Unit: bytes.
const READ_PAUSE_BYTES: usize = 4 << 20;

/// Bytes of answers that may wait for a client that does not read them; beyond, the connection is cut. Unit: bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes of answers that may wait for all clients of a core; beyond, every answer that is not small is replaced by a
/// refusal. Unit: bytes.
const CORE_ANSWER_BYTES_MAX: usize = 512 << 20;

/// Answers up to this size are given whatever else waits. Unit: bytes.
const SMALL_ANSWER_BYTES: usize = 16 << 10;

/// Room in a frame besides the payload. Unit: bytes.
const FRAME_SLACK_BYTES: usize = 64;

/// What all tasks of a connection share.
#[derive(Debug)]
pub struct ClientConn {
    writer: ConnWriter,
    /// What waits for all clients of this core. Unit: bytes.
    core_bytes: Rc<Cell<usize>>,
    waiting_count: Cell<u32>,
}

impl ClientConn {
    /// Requests of this connection that wait for an answer.
    pub fn waiting_count(&self) -> u32 {
        self.waiting_count.get()
    }

    /// A request was taken and will be answered by `answer`.
    pub fn request_began(&self) {
        self.waiting_count.set(self.waiting_count.get() + 1);
    }

    /// Answers a request that `request_began` counted.
    pub fn answer(&self, response: &Response<'_>) {
        self.waiting_count.set(self.waiting_count.get() - 1);
        let is_large = response.result.as_ref().is_ok_and(|body| body.len() > SMALL_ANSWER_BYTES);
        if is_large && self.core_bytes.get() > CORE_ANSWER_BYTES_MAX {
            // All reads of a round are answered at once, and clients may be slow to take it all.
            let message =
                "too many bytes of answers wait for clients of this node; this one was dropped, read again later";
            let refused = Refused { status: Status::Overloaded, executed: Executed::Unknown, message };
            self.push(&Response { id: response.id, leader_hint: response.leader_hint, result: Err(refused) });
        } else {
            self.push(response);
        }
    }

    /// Answers a request that was not taken: it certainly took no effect.
    pub fn refuse(&self, id: u64, status: Status, message: &str) {
        let result = Err(Refused { status, executed: Executed::No, message });
        self.push(&Response { id, leader_hint: None, result });
    }

    fn push(&self, response: &Response<'_>) {
        // A client that is gone needs no answer; one that does not read its answers loses its connection.
        // One that closed its side still gets what is queued.
        if self.writer.push(|out| response.encode(out)).is_err() && !self.writer.is_closed() {
            self.writer.abort();
        }
    }
}

/// Serves a connection past its handshake, until either side ends it.
pub async fn serve(stream: TcpStream, gateway: Rc<Gateway>, board: StatusBoard) {
    let core_bytes = gateway.answer_bytes();
    let writer = ConnWriter::with_total(ANSWER_BYTES_MAX, Rc::clone(&core_bytes));
    let conn = Rc::new(ClientConn { writer, core_bytes, waiting_count: Cell::new(0) });
    let (mut reading, mut writing) = futures_lite::io::split(stream);
    let writer = conn.writer.clone();
    let read = async {
        let payload_limit = gateway.limits().command.request_bytes_limit();
        let mut deframer = Deframer::new(payload_limit + FRAME_SLACK_BYTES);
        loop {
            loop {
                // Answers to what was taken already may still grow beyond this.
                conn.writer.room(READ_PAUSE_BYTES).await;
                if conn.writer.is_closed() {
                    return;
                }
                match deframer.next_frame() {
                    Ok(Some(frame)) => match Request::decode(&frame) {
                        Ok(request) if request.kind == RequestKind::Status => {
                            let body = board.to_json();
                            conn.push(&Response { id: request.id, leader_hint: None, result: Ok(&body) });
                        }
                        Ok(request) => gateway.on_request(&conn, &request),
                        Err(error) => conn.refuse(frame.id, Status::Invalid, &error.to_string()),
                    },
                    Ok(None) => break,
                    Err(error) => {
                        // The position in the stream is lost: say why under no number, and close.
                        conn.refuse(0, Status::Invalid, &error.to_string());
                        tracing::warn!(%error, "closing a client connection");
                        return;
                    }
                }
            }
            match reading.read(deframer.space()).await {
                Ok(0) => return,
                Ok(read) => deframer.advance(read),
                Err(error) => {
                    tracing::debug!(%error, "a client connection broke");
                    return;
                }
            }
        }
    };
    let write = async {
        if let Err(error) = writer.run(&mut writing).await {
            tracing::debug!(%error, "a client connection broke");
        }
    };
    let read_then_close = async {
        read.await;
        conn.writer.close();
        // The writer ends once what is queued has left; it decides when the connection is over.
        std::future::pending::<()>().await;
    };
    futures_lite::future::or(read_then_close, write).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(core_bytes: usize) -> ClientConn {
        let core_bytes = Rc::new(Cell::new(core_bytes));
        let writer = ConnWriter::with_total(ANSWER_BYTES_MAX, Rc::default());
        ClientConn { writer, core_bytes, waiting_count: Cell::new(1) }
    }

    #[test]
    fn large_answers_are_dropped_while_too_much_waits_and_small_ones_never() {
        let (large, small) = (vec![7; SMALL_ANSWER_BYTES + 1], vec![7; SMALL_ANSWER_BYTES]);
        for (core_bytes, body, is_given) in [
            (CORE_ANSWER_BYTES_MAX, &large, true),
            (CORE_ANSWER_BYTES_MAX + 1, &large, false),
            (CORE_ANSWER_BYTES_MAX + 1, &small, true),
        ] {
            let conn = conn(core_bytes);
            conn.answer(&Response { id: 1, leader_hint: None, result: Ok(body) });
            let queued = conn.writer.queued_bytes();
            assert!(queued > 0 && (queued > body.len()) == is_given, "{queued} bytes for {}", body.len());
            assert_eq!(conn.waiting_count(), 0);
        }
    }

    #[test]
    fn an_answer_behind_a_close_leaves_what_is_queued() {
        let conn = conn(0);
        conn.answer(&Response { id: 1, leader_hint: None, result: Ok(b"first") });
        let queued = conn.writer.queued_bytes();
        conn.writer.close();
        conn.refuse(2, Status::Invalid, "too late");
        let mut taken = Vec::new();
        futures_lite::future::block_on(conn.writer.run(&mut taken)).expect("it was not aborted");
        assert_eq!(taken.len(), queued);
    }
}
