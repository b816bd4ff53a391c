//! Who is let in: places for greetings, verdicts on handshakes, and what a caller is told.
//!
//! A node names nothing of itself before the caller has shown that it knows the cluster: whoever merely reaches a port learns from a
//! refusal that it was refused, and the node's own log says the rest. It serves no connection.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use net::handshake::{ClientLimits, Hello, HelloRole, PROTOCOL_VERSION, Verdict, Welcome};
use net::shell::{GreetError, Greeting, Resolver, Stream, greet};

use super::greetings::{GreetingPlace, Greetings};
use super::limits::{ADDRESS_GREETINGS_MIN, ADDRESS_SHARE, MEMBERS_MS_MAX};
use super::metrics::NodeMetrics;
use super::roster::Roster;
use super::said::{Complaint, Said};
use crate::config::{PublicClusterId, Url, ValidConfig};
use crate::types::{NodeId, ShardId};

/// The two ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Clients connect to it.
    Client,
    /// Peers connect to it.
    Peer,
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// The verdict, as the handshake names it.
    pub verdict: Verdict,
    /// What the caller is told.
    pub told: String,
    /// What the node's own log says.
    pub said: String,
    /// The caller knows the cluster, so it may know whom it reached.
    knows_cluster: bool,
}

impl TurnedAway {
    /// The caller is told what the log says; it is not told whom it reached.
    fn of_stranger(verdict: Verdict, message: String) -> Self {
        Self { verdict, told: message.clone(), said: message, knows_cluster: false }
    }

    /// There is no place, and no connection that could make room.
    pub(super) fn busy(limit: usize) -> Self {
        let message = format!("the node has {limit} client connections, its limit, and none of them is idle");
        Self::of_stranger(Verdict::Busy, message)
    }

    fn of_known(verdict: Verdict, message: String) -> Self {
        Self { knows_cluster: true, ..Self::of_stranger(verdict, message) }
    }
}

/// The door of one core.
pub struct Door {
    config: Arc<ValidConfig>,
    roster: Roster,
    /// What clients learn of the cluster's id.
    public_cluster: PublicClusterId,
    resolver: Resolver,
    metrics: Arc<NodeMetrics>,
    clients: Rc<Greetings>,
    peers: Rc<Greetings>,
    /// The addresses of the other members, and when they were looked up.
    members: RefCell<(Option<Instant>, BTreeSet<IpAddr>)>,
    said: Said,
}

impl Door {
    /// The door of one of the node's cores, with places for this many greetings at each port.
    pub fn new(
        config: Arc<ValidConfig>,
        roster: Roster,
        resolver: Resolver,
        metrics: Arc<NodeMetrics>,
        greetings: usize,
    ) -> Self {
        let address_limit = (greetings / ADDRESS_SHARE).max(ADDRESS_GREETINGS_MIN);
        let [clients, peers] = [(); 2].map(|()| Greetings::new(greetings, address_limit));
        Self {
            public_cluster: PublicClusterId::of(config.cluster_id()),
            config,
            roster,
            resolver,
            metrics,
            clients,
            peers,
            members: RefCell::default(),
            said: Said::default(),
        }
    }

    /// A place for the greeting of a connection that was just accepted. `None`: it must be closed at once.
    pub fn place(&self, stream: &Stream, port: Port) -> Option<GreetingPlace> {
        // Without an address it is gone already.
        let address = stream.peer_addr().ok()?.ip();
        if port == Port::Client {
            return self.clients.enter(address, &BTreeSet::new());
        }
        self.look_up_members();
        let place = self.peers.enter(address, &self.members.borrow().1);
        if place.is_none() {
            self.metrics.peer_connections_refused.inc();
            if let Some(left_out) = self.said.may_say(Complaint::Crowded) {
                let count = self.peers.count();
                tracing::warn!(%address, count, left_out, "a connection to the peer port was closed: all places are members'");
            }
        }
        place
    }

    /// Finds the addresses of members anew if that was long ago. What is not known yet is looked up by the links to them.
    fn look_up_members(&self) {
        let mut members = self.members.borrow_mut();
        let is_fresh = |at: Instant| at.elapsed() < Duration::from_millis(MEMBERS_MS_MAX);
        if members.0.is_some_and(is_fresh) {
            return;
        }
        // The settings say where members are, not who they are.
        let others = self.config.members().iter().filter(|member| self.roster.has_anywhere(member.id));
        let authorities: Vec<String> = others.flat_map(|member| member.peer_urls.iter().map(Url::authority)).collect();
        // Those whose address is not known count as strangers, who get in as well.
        let known = self.resolver.known(&authorities).unwrap_or_default();
        *members = (Some(Instant::now()), known.iter().map(|address| address.ip().to_canonical()).collect());
    }

    /// Reads the first words of a connection, as long as it has its place.
    ///
    /// # Errors
    /// It broke, was too slow, speaks neither protocol, or had to make room.
    pub async fn greet(&self, stream: &mut Stream, place: &GreetingPlace) -> Result<Greeting, GreetError> {
        let made_room = async {
            place.taken_away().await;
            Err(GreetError::MadeRoom)
        };
        greet(stream).or(made_room).await
    }

    /// Judges the `Hello` of a client.
    pub fn judge_client(&self, hello: &Hello, is_stopping: bool) -> Option<TurnedAway> {
        if hello.version != PROTOCOL_VERSION {
            let message = format!("this node speaks protocol {PROTOCOL_VERSION}, the client {}", hello.version);
            Some(TurnedAway::of_stranger(Verdict::Version, message))
        } else if hello.role != HelloRole::Client {
            let message = "this is the client port; peers connect to the peer port".to_owned();
            Some(TurnedAway::of_stranger(Verdict::Node, message))
        } else if hello.cluster != 0 && hello.cluster != self.public_cluster.get() {
            Some(self.of_another_public_cluster(hello))
        } else if is_stopping {
            Some(TurnedAway::of_stranger(Verdict::Stopping, "this node is shutting down".to_owned()))
        } else {
            None
        }
    }

    /// Judges the `Hello` of a peer.
    pub fn judge_peer(&self, hello: &Hello, is_stopping: bool) -> Option<TurnedAway> {
        let config = &self.config;
        let (node, shards) = (config.node_id().get(), config.shards());
        let is_known = self.roster.has(ShardId::new(hello.shard), NodeId::new(hello.from));
        if hello.version != PROTOCOL_VERSION {
            let message = format!("protocol is {}, expected {PROTOCOL_VERSION}", hello.version);
            Some(TurnedAway::of_stranger(Verdict::Version, message))
        } else if hello.role == HelloRole::Client {
            let message = "this is the peer port; clients connect to the client port".to_owned();
            Some(TurnedAway::of_stranger(Verdict::Node, message))
        } else if hello.answer(config.cluster_id().get()).is_none() {
            Some(self.of_another_cluster())
        } else if hello.to != node {
            let message = format!("this is node {node:016x}, not {:016x}", hello.to);
            Some(TurnedAway::of_known(Verdict::Node, message))
        } else if hello.shard_count != shards || hello.shard >= shards {
            let message = format!("shard {} of {}, expected one of {shards}", hello.shard, hello.shard_count);
            Some(TurnedAway::of_known(Verdict::Shards, message))
        } else if !is_known {
            let message = format!("node {:016x} is not a member of shard {}", hello.from, hello.shard);
            Some(TurnedAway::of_known(Verdict::Member, message))
        } else if is_stopping {
            Some(TurnedAway::of_known(Verdict::Stopping, "this node is shutting down".to_owned()))
        } else {
            None
        }
    }

    /// The id goes into the log alone.
    fn of_another_cluster(&self) -> TurnedAway {
        let told =
            "this node belongs to another cluster (--initial-cluster, --initial-cluster-token); its log says more";
        let said = format!(
            "the caller does not know the id of this cluster, {}: its --initial-cluster or --initial-cluster-token differ",
            self.config.cluster_id()
        );
        TurnedAway { verdict: Verdict::Cluster, told: told.to_owned(), said, knows_cluster: false }
    }

    /// A client that named a cluster may have been sent to the wrong address: it need not learn what is there.
    fn of_another_public_cluster(&self, hello: &Hello) -> TurnedAway {
        let expected = hello.cluster;
        let told = format!("this node does not belong to the cluster with the public id {expected:016x}");
        let said = format!("the client expects the public cluster id {expected:016x}, it is {}", self.public_cluster);
        TurnedAway { verdict: Verdict::Cluster, told, said, knows_cluster: false }
    }

    /// The answer to a client. It may be anybody, so it learns what it needs and not whom it reached.
    pub fn welcome_client(&self, refusal: Option<&TurnedAway>, limits: ClientLimits) -> Welcome {
        match refusal {
            None => Welcome {
                shard_count: self.config.shards(),
                cluster: self.public_cluster.get(),
                limits,
                ..Welcome::to_stranger(Verdict::Accepted, String::new())
            },
            Some(refusal) => Welcome::to_stranger(refusal.verdict, refusal.told.clone()),
        }
    }

    /// The answer to a peer. One that is let in learns where clients reach this node.
    pub fn welcome_peer(&self, hello: &Hello, refusal: Option<&TurnedAway>) -> Welcome {
        let client_url = || self.config.advertise_client().first().map(ToString::to_string).unwrap_or_default();
        match refusal {
            None => Welcome { client_url: client_url(), ..self.welcome(hello) },
            Some(refusal) => {
                let (verdict, message) = (refusal.verdict, refusal.told.clone());
                if refusal.knows_cluster {
                    // No proof: what answers this `Hello` is for the member alone that it names, and a stranger may have brought
                    // it here.
                    Welcome { verdict, message, cluster: 0, ..self.welcome(hello) }
                } else {
                    Welcome::to_stranger(verdict, message)
                }
            }
        }
    }

    /// What is said to a caller that knows the cluster.
    fn welcome(&self, hello: &Hello) -> Welcome {
        Welcome {
            shard_count: self.config.shards(),
            cluster: hello.answer(self.config.cluster_id().get()).unwrap_or_default(),
            node_id: self.config.node_id().get(),
            name: self.config.name().to_owned(),
            ..Welcome::to_stranger(Verdict::Accepted, String::new())
        }
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
