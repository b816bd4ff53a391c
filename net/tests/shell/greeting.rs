//! The first words of a connection: what is taken, what is refused with which error, and that nothing is read too much.

use std::io;

use codec::DecodeError;
use net::frame::{FrameError, FrameKind, encode_frame};
use net::handshake::{Hello, HelloRole, KIND_HELLO, MAGIC};
use net::shell::{GreetError, Greeting, greet};

use crate::on_an_executor;
use crate::peer::hello;

fn hello_bytes(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    bytes
}

/// Greets a caller that sends these bytes and closes; the result, and how many bytes were left alone.
fn greeted(bytes: &[u8]) -> (Result<Greeting, GreetError>, usize) {
    greeted_each(&[bytes.to_vec()]).remove(0)
}

/// The same for many callers, one after the other.
fn greeted_each(callers: &[Vec<u8>]) -> Vec<(Result<Greeting, GreetError>, usize)> {
    let mut results = Vec::new();
    on_an_executor(async {
        for bytes in callers {
            let mut stream = bytes.as_slice();
            let result = greet(&mut stream).await;
            results.push((result, stream.len()));
        }
    });
    results
}

fn refusal(bytes: &[u8]) -> String {
    greeted(bytes).0.expect_err("no greeting").to_string()
}

#[test]
fn a_hello_is_taken_and_nothing_behind_it() {
    for role in [HelloRole::PeerBulk, HelloRole::PeerControl, HelloRole::Client] {
        let hello = hello(role);
        let mut bytes = hello_bytes(&hello);
        bytes.extend_from_slice(b"the first frame");
        match greeted(&bytes) {
            (Ok(Greeting::Native(got)), 15) => assert_eq!(got, hello),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn http_is_told_from_its_method_and_nothing_behind_it_is_read() {
    for method in ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH "] {
        let request = format!("{method}/health HTTP/1.1\r\n\r\n");
        match greeted(request.as_bytes()) {
            (Ok(Greeting::Http(read)), left) => {
                assert_eq!((read, left), (method.as_bytes().to_vec(), request.len() - method.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn neither_protocol_is_refused_at_the_first_byte_that_shows_it() {
    let rows: [(&[u8], &[u8]); 5] = [
        (b"\x16\x03\x01\x02\x00", b"\x16"),
        (b"PRI * HTTP/2.0\r\n", b"PR"),
        (b"quorate\n", b"q"),
        (b"QUORATE\r\n", b"QUORATE\r"),
        (b"\0\0\0\0", b"\0"),
    ];
    for (bytes, expected) in rows {
        match greeted(bytes) {
            (Err(GreetError::Unknown(read)), left) => {
                assert_eq!((read.as_slice(), left), (expected, bytes.len() - expected.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_connection_that_ends_in_the_middle_is_told() {
    let bytes = hello_bytes(&hello(HelloRole::Client));
    for cut in (0..=MAGIC.len()).chain([MAGIC.len() + 31, MAGIC.len() + 32, bytes.len() - 1]) {
        match greeted(&bytes[..cut]) {
            (Err(GreetError::Io(error)), 0) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}"),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    let cuts: Vec<Vec<u8>> = (MAGIC.len()..bytes.len()).map(|cut| bytes[..cut].to_vec()).collect();
    for (cut, greeted) in (MAGIC.len()..).zip(greeted_each(&cuts)) {
        match greeted {
            (Err(GreetError::Io(error)), _) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}"),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn a_damaged_hello_is_told_by_its_checksums() {
    let bytes = hello_bytes(&hello(HelloRole::Client));
    let flipped = |bit: usize| {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    let all: Vec<Vec<u8>> = (MAGIC.len() * 8..bytes.len() * 8).map(flipped).collect();
    for (bit, (result, _)) in (MAGIC.len() * 8..).zip(greeted_each(&all)) {
        let in_header = bit / 8 < MAGIC.len() + 32;
        match result {
            Err(GreetError::Frame(FrameError::HeaderChecksum { .. })) => assert!(in_header, "bit {bit}"),
            Err(GreetError::Frame(FrameError::MetaChecksum { .. })) => assert!(!in_header, "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn random_bytes_behind_the_magic_are_a_damaged_header() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((0..64_u8).map(|n| n.wrapping_mul(151).wrapping_add(89)));
    let said = refusal(&bytes);
    assert!(said.starts_with("frame header has checksum 1e87f059, expected "), "{said}");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\nhost: quorate\r\n\r\n");
    let said = refusal(&bytes);
    assert!(said.ends_with(": the connection is corrupt or not Quorate's"), "{said}");
}

#[test]
fn a_hello_over_the_limit_is_refused_by_its_header() {
    let mut bytes = MAGIC.to_vec();
    encode_frame(&mut bytes, KIND_HELLO, 0, 0, 0, &[0; 2049]);
    let (result, left) = greeted(&bytes);
    match result {
        Err(GreetError::Frame(error)) => assert_eq!(error, FrameError::TooLarge { got: 2049, limit: 2048 }),
        other => panic!("{other:?}"),
    }
    assert_eq!(left, 2049, "nothing of its body was read");
}

#[test]
fn a_first_frame_that_is_no_hello_is_refused() {
    let mut bytes = MAGIC.to_vec();
    encode_frame(&mut bytes, FrameKind::new(8), 0, 0, 0, &[1, 0, 1]);
    match greeted(&bytes).0 {
        Err(GreetError::Decode(error)) => {
            assert_eq!(error, DecodeError::Unknown { what: "the kind of a handshake frame", got: 8 });
        }
        other => panic!("{other:?}"),
    }
}
