//! The corpora of the fuzz targets, replayed.

use crate::testing::{corpus, fuzz};

fn replay(target: &str, check: fn(&[u8])) {
    corpus::replay(env!("CARGO_MANIFEST_DIR"), target, check);
}

#[test]
fn client_request_corpus() {
    replay("client_request", fuzz::client_request);
}

#[test]
fn client_response_corpus() {
    replay("client_response", fuzz::client_response);
}

#[test]
fn deframer_corpus() {
    replay("deframer", fuzz::deframer);
}

#[test]
fn handshake_corpus() {
    replay("handshake", fuzz::handshake);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    corpus::check_targets(env!("CARGO_MANIFEST_DIR"), &["client_request", "client_response", "deframer", "handshake"]);
}
