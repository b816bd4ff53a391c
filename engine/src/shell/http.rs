//! HTTP on the client port: `/metrics`, `/health`, `/livez`, `/readyz`, `/version`. `docs/probes.md` describes them.
//!
//! hyper parses and writes; this module adapts a glommio stream to it and answers five paths. It takes no requests that
//! change anything, and one connection ends after `PROBE_S_MAX`, or when others need its place.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use net::shell::Stream;

use super::classes::give_way;
use super::exposition::Format;
use super::guests::Guest;
use super::limits::{PROBE_HEAD_BYTES_MAX, PROBE_PIECE_BYTES, PROBE_S_MAX};
use super::metrics::NodeMetrics;
use super::status::{Asked, StatusBoard};

/// What the paths answer from.
#[derive(Clone, Debug)]
pub struct Probes {
    /// What the shards show.
    pub board: StatusBoard,
    /// The node's figures.
    pub metrics: Arc<NodeMetrics>,
}

/// A connection of a probe. It can end at any time: whoever was not answered asks again.
#[derive(Debug, Default)]
pub(super) struct ProbeConn {
    asked_at: Cell<Option<Instant>>,
    is_over: Cell<bool>,
    /// Whoever serves it.
    waker: RefCell<Option<Waker>>,
}

impl Guest for ProbeConn {
    fn asked_at(&self) -> Option<Instant> {
        self.asked_at.get()
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn make_room(&self) {
        self.is_over.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn cut(&self) {
        // It ended at once when it made room, and leaves nothing open when it ends by itself.
    }
}

impl ProbeConn {
    /// Waits until others need its place.
    async fn made_room(&self) -> io::Error {
        poll_fn(|cx| {
            if self.is_over.get() {
                return Poll::Ready(io::Error::other("others needed its place"));
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Serves one HTTP connection whose first bytes were already read.
///
/// # Errors
/// The connection broke, was open for too long, or had to make room.
pub(super) async fn serve(stream: Stream, already_read: Vec<u8>, probes: Probes, probe: &ProbeConn) -> io::Result<()> {
    let io = HttpStream { stream, already_read, position: 0 };
    let service = service_fn(move |request: Request<Incoming>| {
        probe.asked_at.set(Some(Instant::now()));
        let probes = probes.clone();
        async move {
            // Requests that were sent together are answered one at a time: figures take a while.
            give_way().await;
            Ok::<_, Infallible>(answer(&request, &probes))
        }
    });
    let mut builder = http1::Builder::new();
    // A probe may close its sending side with its request, and still gets the answer.
    builder.keep_alive(true).half_close(true).max_buf_size(PROBE_HEAD_BYTES_MAX);
    let connection = builder.serve_connection(io, service);
    let limit = Duration::from_secs(PROBE_S_MAX);
    let served = async {
        match glommio::timer::timeout(limit, async move { Ok(connection.await) }).await {
            Ok(result) => result.map_err(io::Error::other),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    served.or(async { Err(probe.made_room().await) }).await
}

fn answer(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match probes.metrics.render(wanted_format(request)) {
            Ok((format, figures)) => respond(StatusCode::OK, format.content_type(), figures),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/livez" => verdict(probes.board.live()),
        "/readyz" => {
            // Who is ready serves clients in full; only `/health` may ask for less.
            let asked = Asked { serializable: false, ..asked_for(request.uri().query()) };
            verdict(probes.board.serves(&asked))
        }
        "/health" => health(probes.board.serves(&asked_for(request.uri().query()))),
        "/version" => json(
            StatusCode::OK,
            &serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "log_format": wal::segment::FORMAT_VERSION as u32,
                "protocol": net::handshake::PROTOCOL_VERSION,
            }),
        ),
        path => text(
            StatusCode::NOT_FOUND,
            format!("{path} is not served here; there are /metrics, /health, /livez, /readyz and /version\n"),
        ),
    }
}

/// What a query asks for, in etcd's words: `serializable=true`, and `exclude=NOSPACE`, which may come again with other alarms.
fn asked_for(query: Option<&str>) -> Asked {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    pairs.fold(Asked::default(), |asked, (name, value)| match name {
        "serializable" => Asked { serializable: value == "true", ..asked },
        "exclude" if value.eq_ignore_ascii_case("NOSPACE") => Asked { without_room: true, ..asked },
        _ => asked,
    })
}

/// The format of figures that a caller prefers.
fn wanted_format(request: &Request<Incoming>) -> Format {
    let accepted = request.headers().get_all(hyper::header::ACCEPT);
    Format::wanted(accepted.iter().filter_map(|value| value.to_str().ok()))
}

fn verdict(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// The shape of etcd's answer, which its users' probes parse.
fn health(result: Result<(), String>) -> Response<Full<Bytes>> {
    let (status, body) = match result {
        Ok(()) => (StatusCode::OK, serde_json::json!({"health": "true", "reason": ""})),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({"health": "false", "reason": reason})),
    };
    json(status, &body)
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", format!("{body}\n"))
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// A glommio stream as hyper wants it, with the bytes that were read to tell the protocol put back in front.
struct HttpStream {
    stream: Stream,
    already_read: Vec<u8>,
    position: usize,
}

impl hyper::rt::Read for HttpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wanted = buf.remaining().min(PROBE_PIECE_BYTES);
        let left = &this.already_read[this.position..];
        if !left.is_empty() {
            let taken = left.len().min(wanted);
            buf.put_slice(&left[..taken]);
            this.position += taken;
            return Poll::Ready(Ok(()));
        }
        let mut chunk = [0; PROBE_PIECE_BYTES];
        match Pin::new(&mut this.stream).poll_read(cx, &mut chunk[..wanted]) {
            Poll::Ready(Ok(read)) => {
                buf.put_slice(&chunk[..read]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for HttpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_in_words_of_etcd() {
        let all = Asked::default();
        let alone = Asked { serializable: true, ..all };
        let without_room = Asked { without_room: true, ..all };
        for (query, expected) in [
            (None, all),
            (Some(""), all),
            (Some("serializable"), all),
            (Some("serializable=false"), all),
            (Some("serializable=true"), alone),
            (Some("exclude=NOSPACE"), without_room),
            (Some("exclude=CORRUPT&exclude=nospace"), without_room),
            (Some("exclude=CORRUPT&verbose"), all),
            (Some("exclude=NOSPACE&serializable=true"), Asked { serializable: true, without_room: true }),
        ] {
            assert_eq!(asked_for(query), expected, "{query:?}");
        }
    }
}
