//! Well-formed messages that make no sense, at the peer ports of nodes that serve: from strangers, and from strangers who pass for
//! members.
//!
//! Nothing that an honest member could have said and that is not true is among them (`docs/durability.md`, "Members that lie"):
//! nodes believe such things. `engine/src/testing/fuzz/replica` goes further, on simulated disks.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use engine::call::{Call, CallKind, Part};
use engine::config::{Config, cluster_id};
use engine::raft::{AppendOutcome, BirthAnswer, Health, Message, Speaker, TERM_MAX};
use engine::types::{EntryId, Index, NodeId, ShardId, Term};
use engine::wire;
use net::deframer::Deframer;
use net::handshake::{Hello, HelloRole, PROTOCOL_VERSION, Verdict, Welcome};
use wal::testing::SimRng;

use crate::ALL;
use crate::harness::{Cluster, PATIENCE};
use crate::load::{Load, check_everywhere, value_of};
use crate::probes::count;

/// Connections in all.
const CONNECTIONS: usize = 240;

/// Frames of one connection.
const FRAMES: u64 = 40;

const SHARD: ShardId = ShardId::new(0);

/// Who is spoken to as whom.
struct Liar {
    cluster: u64,
    members: Vec<u64>,
    rng: SimRng,
}

impl Liar {
    fn number(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => self.rng.below(20),
            1 => 1 << (20 + self.rng.below(20)),
            2 => TERM_MAX.get() - self.rng.below(3),
            _ => u64::MAX >> (2 + self.rng.below(60)),
        }
    }

    /// A term that is over, or one that nobody reaches. What a leader of the present says is believed.
    fn term(&mut self) -> Term {
        Term::new(if self.rng.chance(1, 2) { self.rng.below(2) } else { TERM_MAX.get() - self.rng.below(3) })
    }

    /// An index that no log has, or none.
    fn index(&mut self) -> Index {
        Index::new(if self.rng.chance(1, 2) { 0 } else { (1 << 40) + self.rng.below(1 << 20) })
    }

    fn message(&mut self) -> Message {
        let (term, one, other) = (self.term(), self.index(), self.index());
        let last = EntryId::new(self.term(), self.index());
        match self.rng.below(11) {
            0 => Message::RequestPreVote { term, last },
            1 => Message::RequestVote { term, last, transfer: self.rng.chance(1, 2) },
            2 => Message::RequestVoteResponse { term, granted: false },
            3 => Message::PreVoteResponse { term, campaign_term: term, granted: false },
            4 => Message::Heartbeat { term, life: 1, commit_index: one, round: self.number() },
            5 => Message::HeartbeatResponse {
                term,
                life: 1,
                round: 1 << 60,
                matched_index: one,
                persisted_index: other,
                lineage: None,
                health: Health { may_lead: false, ..Health::default() },
            },
            6 => {
                let outcome = AppendOutcome::Rejected { prev_index: one, hint: last };
                Message::AppendEntriesResponse { term, life: 1, outcome }
            }
            7 => Message::TimeoutNow { term, last_index: one },
            8 => Message::RepairResponse {
                term,
                life: 1,
                nonce: self.number(),
                last_index: one,
                challenge: self.number(),
            },
            9 => Message::BirthRequest { term, incarnation: self.number() },
            _ => {
                let (asked, incarnation) = (self.number(), self.number());
                Message::BirthResponse { term, asked, incarnation, answer: BirthAnswer::Stranger }
            }
        }
    }

    fn frame(&mut self, role: HelloRole, out: &mut Vec<u8>) {
        let number = self.number();
        match (role, self.rng.below(3)) {
            (HelloRole::PeerRelay, 0) => {
                wire::encode_relay_reply(number, Part::Last(Ok(b"what nobody asked for")), usize::MAX, out)
            }
            (HelloRole::PeerRelay, _) => {
                let kind = if self.rng.chance(1, 2) { CallKind::Write } else { CallKind::Read };
                let call = Call::borrowed(SHARD, kind, self.rng.below(1 << 32) as u32, b"no command");
                wire::encode_relay_call(number, &call, out);
            }
            _ => wire::encode_message(&self.message(), Speaker::default(), SHARD, out),
        }
    }

    /// Opens a connection, says who it is not, and talks nonsense until it is closed. Returns the verdict of the greeting.
    fn talk(&mut self, address: &str, to: u64, from: u64) -> Verdict {
        let role =
            [HelloRole::PeerControl, HelloRole::PeerBulk, HelloRole::PeerRelay][usize::from(self.rng.below(3) as u8)];
        let mut stream = TcpStream::connect(address).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut bytes = Vec::new();
        let mut hello = Hello {
            version: PROTOCOL_VERSION,
            role,
            shard_count: 1,
            shard: SHARD.get(),
            cluster: 0,
            from,
            to,
            nonce: 0,
            name: "nobody".to_owned(),
        };
        hello.prove(self.cluster, self.number());
        hello.encode(&mut bytes);
        stream.write_all(&bytes).expect("the greeting is taken");
        let mut deframer = Deframer::new(1 << 16);
        let welcome = loop {
            if let Some(frame) = deframer.next_frame().expect("sound frames") {
                break Welcome::decode(&frame).expect("a welcome");
            }
            let read = stream.read(deframer.space()).expect("an answer to the greeting");
            assert!(read > 0, "the greeting is answered");
            deframer.advance(read);
        };
        if welcome.verdict == Verdict::Accepted {
            for _ in 0..FRAMES {
                let mut bytes = Vec::new();
                self.frame(role, &mut bytes);
                match stream.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
                    Err(error) => panic!("the node does not take it: {error}"),
                }
            }
            // A newer connection of the same name would end this one before the node has read it all.
            hang_up(&mut stream);
        }
        welcome.verdict
    }
}

/// Ends what is said, and waits until the node has ended its side, too.
fn hang_up(stream: &mut TcpStream) {
    let ended = stream.shutdown(Shutdown::Write).and_then(|()| stream.read_to_end(&mut Vec::new()));
    if let Err(error) = ended {
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::NotConnected), "{error}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_at_the_peer_port_ends_no_node_and_loses_nothing() {
    let mut cluster = Cluster::start(3).await;
    let statuses = cluster.wait_for_leaders().await;
    let member = |number: usize| {
        let name = &cluster.nodes[number].name;
        statuses.iter().find(|status| status.name == *name).expect("every node answers").node_id
    };
    let members: Vec<u64> = ALL.into_iter().map(member).collect();
    let ids: Vec<NodeId> = members.iter().map(|id| NodeId::new(*id)).collect();
    let cluster_id = cluster_id(&Config::default().initial_cluster_token, &ids).get();
    let mut liar = Liar { cluster: cluster_id, members, rng: SimRng::new(7) };
    let load = Load::start(&cluster, &ALL, "nonsense").await;
    load.wait_for_more(50).await;
    for connection in 0..CONNECTIONS {
        let to = connection % ALL.len();
        let address = cluster.nodes[to].peer_address().to_owned();
        let is_stranger = liar.rng.chance(1, 5);
        let from = if is_stranger { 42 } else { liar.members[(to + 1 + connection / 3 % 2) % ALL.len()] };
        let receiver = liar.members[to];
        let (back, verdict) = tokio::task::spawn_blocking(move || {
            let verdict = liar.talk(&address, receiver, from);
            (liar, verdict)
        })
        .await
        .expect("it talks");
        liar = back;
        assert_eq!(verdict, if is_stranger { Verdict::Member } else { Verdict::Accepted });
    }
    load.wait_for_more(50).await;
    for number in ALL {
        // What was counted shows with the next tick.
        let heard = async {
            while count(&cluster, number, "quorate_messages_refused_total") == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        assert!(heard.is_ok(), "node {number} heard some and counted it");
    }
    let acknowledged = load.stop().await;
    for number in ALL {
        let client = cluster.client_of(&[number], PATIENCE).await;
        client.put(b"after", &value_of("after")).await.expect("every node serves");
    }
    check_everywhere(&cluster, &ALL, &acknowledged).await;
    let statuses = cluster.wait_for_leaders().await;
    assert!(statuses.iter().all(|status| status.stopped.is_none()), "{statuses:#?}");
    // What they have on disk is as good: they all start again.
    for number in ALL {
        cluster.kill(number);
    }
    for number in ALL {
        cluster.start_node(number);
    }
    check_everywhere(&cluster, &ALL, &acknowledged).await;
}
