//! The corpora of the fuzz targets, replayed.

use net::testing::corpus;

use crate::testing::fuzz;

fn replay(target: &str, check: fn(&[u8])) {
    corpus::replay(env!("CARGO_MANIFEST_DIR"), target, check);
}

#[test]
fn batch_corpus() {
    replay("batch", fuzz::batch);
}

#[test]
fn command_corpus() {
    replay("command", fuzz::command);
}

#[test]
fn config_toml_corpus() {
    replay("config_toml", fuzz::config_toml);
}

#[test]
fn config_urls_corpus() {
    replay("config_urls", fuzz::config_urls);
}

#[test]
fn peer_message_corpus() {
    replay("peer_message", fuzz::peer_message);
}

#[test]
fn replica_corpus() {
    replay("replica", fuzz::replica);
}

#[test]
fn response_corpus() {
    replay("response", fuzz::response);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    corpus::check_targets(
        env!("CARGO_MANIFEST_DIR"),
        &["batch", "command", "config_toml", "config_urls", "peer_message", "replica", "response"],
    );
}
