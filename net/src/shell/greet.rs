//! The called side of a handshake: find out what a new connection is, without reading a byte too many.

use std::io;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt};

use crate::frame::{self, FRAME_HEADER_BYTES, Frame, FrameError};
use crate::handshake::{Hello, MAGIC, Protocol, sniff};
use crate::limits::HANDSHAKE_BODY_BYTES_MAX;
use codec::DecodeError;

use super::limits::GREETING_MS_MAX;

/// What a new connection turned out to be.
#[derive(Debug)]
pub enum Greeting {
    /// Quorate's own protocol; nothing after the `Hello` was read.
    Native(Hello),
    /// HTTP; these bytes of the request were read already.
    Http(Vec<u8>),
}

/// A connection that ended before it said who it is.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// The connection broke or was too slow.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Neither protocol.
    #[error("the connection begins with {0:02x?}, which is neither Quorate's protocol nor HTTP")]
    Unknown(Vec<u8>),
    /// The first frame is damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It had to make room.
    #[error("it had not said who it is when newer connections needed its place")]
    MadeRoom,
    /// The first frame is no `Hello`.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Reads the first words of a connection.
///
/// # Errors
/// It broke, was too slow, or speaks neither protocol.
pub async fn greet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Greeting, GreetError> {
    let reading = async { Ok(read_greeting(stream).await) };
    match glommio::timer::timeout(Duration::from_millis(GREETING_MS_MAX), reading).await {
        Ok(result) => result,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

async fn read_greeting(stream: &mut (impl AsyncRead + Unpin)) -> Result<Greeting, GreetError> {
    let mut first = Vec::with_capacity(MAGIC.len());
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        first.extend_from_slice(&byte);
        match sniff(&first) {
            Protocol::NeedMore => {}
            Protocol::Unknown => return Err(GreetError::Unknown(first)),
            Protocol::Http => return Ok(Greeting::Http(first)),
            Protocol::Native => break,
        }
    }
    let mut body = Vec::new();
    read_frame(stream, &mut body, |frame| Hello::decode(&frame)).await?.map(Greeting::Native).map_err(GreetError::from)
}

/// Reads exactly one handshake frame and hands it to `take`.
///
/// # Errors
/// The connection broke, or the frame is damaged or too large for a handshake.
pub(super) async fn read_frame<T>(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
    take: impl FnOnce(Frame<'_>) -> T,
) -> Result<T, GreetError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let lengths = frame::check_header(&header, HANDSHAKE_BODY_BYTES_MAX)?;
    body.clear();
    body.resize(lengths.body, 0);
    stream.read_exact(body).await?;
    let (meta, rest) = body.split_at_checked(lengths.meta).unwrap_or_default();
    Ok(take(frame::parse(&header, meta, rest)?))
}
