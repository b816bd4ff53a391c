//! Endpoints that are names: with several addresses, some of them of no use, and with resolvers that hang or fail.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use net::client::{Client, ClientError, Options};
use net::resolve::Resolver;

use crate::server::{DeadEnd, SHORT, Server, connect_with, options, write};

/// A client's options; the name `node:1` stands for these addresses.
fn named(addresses: &[&str], next_address_after: Duration) -> Options {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    let resolver = Resolver::new(move |name| {
        assert_eq!(name, "node:1");
        Ok(addresses.clone())
    });
    Options { resolver, next_address_after, ..options(&["node:1".to_owned()]) }
}

async fn is_served(options: Options, server: &Server) {
    let (client, mut session) = tokio::join!(connect_with(options), server.accept());
    let client = client.expect("a client");
    let (answer, ()) = tokio::join!(write(&client, b"w"), async {
        let id = session.request().await.id;
        session.answer(id, b"ok").await;
    });
    assert_eq!(answer, Ok(b"ok".to_vec()));
}

#[tokio::test]
async fn an_address_that_takes_connections_and_says_nothing_does_not_hide_the_next() {
    let (silent, server) = (Server::start().await, Server::start().await);
    is_served(named(&[&silent.authority(), &server.authority()], SHORT), &server).await;
}

#[tokio::test]
async fn an_address_that_fails_makes_way_for_the_next_at_once() {
    let (dead, server) = (DeadEnd::reserve(), Server::start().await);
    // The time between two attempts is longer than any test.
    let never = options(&[]).next_address_after;
    is_served(named(&[&dead.authority, &server.authority()], never), &server).await;
}

#[tokio::test]
async fn the_failures_of_all_addresses_are_told() {
    let dead = [DeadEnd::reserve(), DeadEnd::reserve()];
    let [one, other] = [0, 1].map(|at: usize| dead[at].authority.as_str());
    let error = connect_with(named(&[one, other], SHORT)).await.expect_err("nobody is there").to_string();
    for authority in [one, other] {
        assert!(error.contains(&format!("{authority}: nothing listens there")), "{error}");
    }
}

/// A resolver whose lookups end when something is sent to the channel; it counts them.
fn resolver_that_hangs() -> (Resolver, mpsc::Sender<Vec<SocketAddr>>, Arc<AtomicUsize>) {
    let (answer, answers) = mpsc::channel::<Vec<SocketAddr>>();
    let (answers, count) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let resolver = Resolver::new(move |_name| {
        counted.fetch_add(1, Ordering::SeqCst);
        answers.lock().expect("unpoisoned").recv().map_err(|_| io::Error::other("the resolver was shut down"))
    });
    (resolver, answer, count)
}

#[test]
fn a_resolver_that_hangs_outlives_no_attempt_and_no_runtime_and_is_asked_once() {
    let (resolver, answer, count) = resolver_that_hangs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for _ in 0..3 {
            let endpoints = ["node:1".to_owned()];
            let options = Options { resolver: resolver.clone(), connect_timeout: SHORT, ..options(&endpoints) };
            let error = connect_with(options).await.expect_err("nobody answers").to_string();
            assert!(error.contains("the resolver has not answered within"), "{error}");
        }
    });
    // A runtime waits for work that blocks on its threads.
    drop(runtime);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(answer);
}

#[tokio::test]
async fn a_name_that_cannot_be_found_is_a_failure_at_once() {
    let (resolver, answer, _count) = resolver_that_hangs();
    drop(answer);
    let options = Options { resolver, ..options(&["node:1".to_owned()]) };
    let error = Client::connect(options).await.expect_err("there is no such name");
    let ClientError::Unavailable { reason } = error else { panic!("{error}") };
    assert_eq!(reason, "node:1: the resolver was shut down");
}
