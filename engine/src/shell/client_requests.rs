//! What a client's connection brings: calls, taken one after the other, until either side ends it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt};
use net::api::{Executed, KIND_CANCEL, KIND_PING, Refused, Request, Response, Status};
use net::deframer::Deframer;
use net::frame::{Frame, FrameError};
use net::shell::Stream;

use super::classes::Slice;
use super::client_conn::ClientConn;
use super::gateway::Gateway;
use super::guests::GuestPlace;
use super::limits::{FINISHED_MS_MAX, LINGERING_MS_MAX, REQUEST_SLACK_BYTES, SKIP_BYTES_MAX, SKIP_PIECE_BYTES};
use super::partial::{Arrived, GivenUp};
use super::status::StatusBoard;
use crate::call::{AnsweredBy, Call, CallKind};

/// How a client's requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed its sending side; it may still read.
    Finished,
    /// A request that was not complete is not waited for any more; nothing after it is read.
    GivenUp(GivenUp),
    /// The position in the stream is lost: nothing more can be understood.
    Damaged(FrameError),
    /// Nothing more can be sent.
    Broken,
}

/// Serves a connection past its handshake, until either side ends it. Says what was wrong with what the client sent, if it had
/// to end for that.
pub(super) async fn serve(
    stream: Stream,
    conn: Rc<ClientConn>,
    place: GuestPlace<ClientConn>,
    gateway: Rc<Gateway>,
    board: StatusBoard,
) -> Option<FrameError> {
    let damage = Cell::new(None);
    let (mut reading, mut writing) = futures_lite::io::split(stream);
    let writer = conn.writer().clone();
    let write = async {
        let written = writer.run(&mut writing).await;
        written.inspect_err(|error| tracing::debug!(%error, "a client connection broke")).is_ok()
    };
    // In a box: what takes it over would set room aside for it twice, for every connection.
    let read_then_close = Box::pin(async {
        let end = take_requests(&conn, &mut reading, &gateway, &board).await;
        if let End::Damaged(error) = end {
            damage.set(Some(error));
        } else if end != End::Broken {
            // What the client sent before is executed, so it is answered, too.
            let answered = async {
                conn.all_answered().await;
                Ok(())
            };
            if glommio::timer::timeout(Duration::from_millis(FINISHED_MS_MAX), answered).await.is_err() {
                tracing::debug!(left = conn.waiting_count(), "closing a client connection before its last answers");
            }
        }
        if let End::GivenUp(why) = end {
            conn.say_given_up(why);
        }
        conn.writer().close();
        // The writer ends once what is queued has left; it decides when the connection is over.
        std::future::pending().await
    });
    let begin_held = Box::pin(async {
        gateway.begin_held_reads(&conn).await;
        std::future::pending().await
    });
    let is_written = futures_lite::future::or(futures_lite::future::or(read_then_close, begin_held), write).await;
    gateway.client_left(&conn);
    // One that is broken ends here and now: nobody has to make room for it.
    if is_written {
        place.give_up();
        Box::pin(futures_lite::future::or(read_to_end(&mut reading), place.pushed_out())).await;
    }
    damage.into_inner()
}

/// Passes over what a client still sends, for a while. To close a connection with unread bytes would take from the client what it
/// was sent before.
async fn read_to_end(reading: &mut (impl AsyncRead + Unpin)) {
    let until_end = async {
        let mut piece = vec![0; SKIP_PIECE_BYTES];
        // Gives way, so that a client that sends without end holds up neither others nor the limit of time.
        let slice = Slice::default();
        loop {
            let read = reading.read(&mut piece).await?;
            if read == 0 {
                return Ok::<_, std::io::Error>(());
            }
            slice.spend(read).await;
        }
    };
    let in_time = glommio::timer::timeout(Duration::from_millis(LINGERING_MS_MAX), async { Ok(until_end.await) });
    // However it ends, nothing more is expected of it.
    drop(in_time.await);
}

/// Takes requests until there are no more, or nothing more can be answered.
async fn take_requests(
    conn: &Rc<ClientConn>,
    reading: &mut (impl AsyncRead + Unpin),
    gateway: &Gateway,
    board: &StatusBoard,
) -> End {
    let payload_limit = gateway.limits().command.request_bytes_limit();
    let mut deframer = Deframer::new(payload_limit + REQUEST_SLACK_BYTES);
    let slice = Slice::default();
    let partial = gateway.partials().connection();
    loop {
        let mut is_new = false;
        loop {
            // Answers to what was taken already may still grow beyond this.
            if !conn.has_room()
                && let Some(why) = partial.pause(&deframer, conn.room()).await
            {
                return End::GivenUp(why);
            }
            if conn.writer().is_closed() {
                return End::Broken;
            }
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    let bytes = frame.meta.len() + frame.rest.len();
                    is_new = true;
                    take_request(conn, &frame, gateway, board);
                    slice.spend(bytes).await;
                }
                Ok(None) => break,
                Err(error) => {
                    if let Some(skipped) = deframer.skip_too_large(SKIP_BYTES_MAX).filter(|skipped| skipped.id != 0) {
                        conn.refuse(skipped.id, Status::TooLarge, &gateway.too_large(skipped.body_bytes));
                        slice.spend(0).await;
                        continue;
                    }
                    // The position in the stream is lost: say why under no number, and close.
                    let message = error.to_string();
                    let refused = Refused { status: Status::Invalid, executed: Executed::Unknown, message: &message };
                    conn.push(&Response { id: 0, leader_hint: None, result: Err(refused) });
                    return End::Damaged(error);
                }
            }
        }
        match partial.read(reading, &mut deframer, is_new).await {
            Ok(Arrived::End) => return End::Finished,
            Ok(Arrived::Bytes) => {
                conn.bytes_arrived();
                slice.look().await;
            }
            Ok(Arrived::GivenUp(why)) => return End::GivenUp(why),
            Err(error) => {
                tracing::debug!(%error, "a client connection broke");
                return End::Broken;
            }
        }
    }
}

fn take_request(conn: &Rc<ClientConn>, frame: &Frame<'_>, gateway: &Gateway, board: &StatusBoard) {
    let request = match Request::decode(frame) {
        Ok(request) => request,
        Err(error) => return conn.refuse(frame.id, Status::Invalid, &error.to_string()),
    };
    if request.kind == KIND_PING {
        return conn.push(&Response { id: request.id, leader_hint: None, result: Ok(b"") });
    }
    if request.kind == KIND_CANCEL {
        return gateway.cancel(conn, request.id);
    }
    match Call::of_request(&request) {
        Ok(call) if call.kind.answered_by() == AnsweredBy::Node => {
            answer_for_node(conn, request.id, &call, gateway, board);
        }
        Ok(_) if conn.is_over() => {}
        Ok(call) => gateway.on_call(conn, request.id, call),
        Err(error) => conn.refuse(request.id, Status::Invalid, &error.to_string()),
    }
}

/// Answers what is asked of the node and not of a shard.
fn answer_for_node(conn: &ClientConn, id: u64, call: &Call<'_>, gateway: &Gateway, board: &StatusBoard) {
    if let Err(refusal) = gateway.check(call) {
        return conn.refuse(id, refusal.status, &refusal.message);
    }
    match call.kind {
        CallKind::Status => conn.push(&Response { id, leader_hint: None, result: Ok(&board.to_json()) }),
        kind => unreachable!("{kind:?} is answered by a shard"),
    }
}
