//! Links to peers: greeting, refusals, coming back, bounded queues, two lanes, and their end.

use futures_lite::AsyncWriteExt;
use net::handshake::{Hello, HelloRole, PROTOCOL_VERSION, Verdict, Welcome};
use net::shell::{LinkEvent, NotTaken, PeerLinkOptions, Resolver};
use socket2::{Domain, Socket, Type};

use crate::on_an_executor;
use crate::peer::{CALLED, CLUSTER_ID, Frames, Peer, SHARDS, frame, hello, link_to, link_with, send_welcome, welcome};

const LIMIT: usize = 1 << 16;

fn up() -> LinkEvent {
    LinkEvent::Up { client_url: welcome().client_url }
}

#[test]
fn a_link_says_who_it_is_and_brings_frames_in_order() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
        assert_eq!(link.push(|_| panic!("nothing is queued for a peer that is not there")), Err(NotTaken::Closed));
        let (mut stream, got) = peer.accept_hello().await;
        assert!(
            got.answer(CLUSTER_ID).is_some() && got.cluster != CLUSTER_ID,
            "it knows the cluster and does not name it"
        );
        assert_eq!(Hello { cluster: 0, nonce: 0, ..got.clone() }, hello(HelloRole::PeerControl));
        assert!(link.queued_bytes().is_none(), "not before the peer has taken it");
        send_welcome(&mut stream, &got, &welcome()).await;
        assert_eq!(events.recv().await, Some(up()));
        assert_eq!(link.queued_bytes(), Some(0));
        let mut frames = Frames::of(stream);
        for id in 0..100 {
            assert_eq!(link.push(|out| out.extend_from_slice(&frame(id, 10))), Ok(()));
        }
        for id in 0..100 {
            assert_eq!(frames.next().await, Some(id));
        }
        link.close();
        assert_eq!(frames.next().await, None);
    });
}

#[test]
fn a_host_may_be_a_name() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&format!("localhost:{}", peer.address().port()), HelloRole::PeerBulk, LIMIT);
        let _stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        link.close();
        let (link, events) = link_to("no-such-host.invalid:1", HelloRole::PeerBulk, LIMIT);
        match events.recv().await {
            Some(LinkEvent::Failed { reason }) => assert!(!reason.is_empty()),
            other => panic!("{other:?}"),
        }
        link.close();
    });
}

#[test]
fn every_address_of_a_peer_is_tried_and_the_one_that_answered_first_the_next_time() {
    on_an_executor(async {
        let (dead, peer) = (Peer::start(), Peer::start());
        let dead_address = dead.address();
        drop(dead);
        // The name of the first URL stands for a host that is gone, that of the second for two, one of which is alive.
        let addresses = [dead_address, peer.address()];
        let resolver =
            Resolver::new(move |name| Ok(if name == "gone:1" { vec![dead_address] } else { addresses.to_vec() }));
        let authorities = vec!["gone:1".to_owned(), "both:1".to_owned()];
        let hello = hello(HelloRole::PeerBulk);
        let (link, events) = link_with(PeerLinkOptions {
            authorities,
            resolver,
            cluster_id: CLUSTER_ID,
            hello,
            queue_bytes_limit: LIMIT,
        });
        let stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()), "no failure before: the attempt goes on");
        drop(stream);
        assert!(matches!(events.recv().await, Some(LinkEvent::Down { .. })));
        let _stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        link.close();
    });
}

#[test]
fn a_lookup_that_hangs_keeps_no_link_from_the_addresses_that_are_known() {
    on_an_executor(async {
        let peer = Peer::start();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Mutex::new(released);
        let resolver = Resolver::new(move |_name| {
            // It ends with the test.
            let _ended = released.lock().expect("unpoisoned").recv();
            Ok(Vec::new())
        });
        let options = |authority: String| PeerLinkOptions {
            authorities: vec!["hangs:1".to_owned(), authority],
            resolver: resolver.clone(),
            cluster_id: CLUSTER_ID,
            hello: hello(HelloRole::PeerBulk),
            queue_bytes_limit: LIMIT,
        };
        let (link, events) = link_with(options(peer.address().to_string()));
        let _stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        link.close();
        drop(release);
    });
}

#[test]
fn every_refusal_is_reported_once_and_the_link_comes_back() {
    on_an_executor(async {
        let peer = Peer::start();
        let all = [
            Verdict::Version,
            Verdict::Cluster,
            Verdict::Node,
            Verdict::Shards,
            Verdict::Member,
            Verdict::Busy,
            Verdict::Stopping,
        ];
        for verdict in all {
            let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
            let message = format!("because of {verdict:?}");
            let refusal = Welcome { verdict, message: message.clone(), ..welcome() };
            drop(peer.answer(&refusal).await);
            assert_eq!(events.recv().await, Some(LinkEvent::Refused { verdict, message }));
            assert_eq!(link.push(|_| panic!("nothing is queued for a peer that refuses")), Err(NotTaken::Closed));
            // The same again is no news.
            drop(peer.answer(&refusal).await);
            let stream = peer.accept().await;
            assert_eq!(events.recv().await, Some(up()));
            link.close();
            assert_eq!(Frames::of(stream).next().await, None);
        }
    });
}

#[test]
fn a_peer_that_is_another_than_expected_gets_nothing() {
    on_an_executor(async {
        let peer = Peer::start();
        let authority = peer.address().to_string();
        let (link, events) = link_to(&authority, HelloRole::PeerControl, LIMIT);
        let other_node = format!("{authority} answers as node 0000000000000009, expected node 0000000000000002");
        let other_cluster = format!(
            "whoever answers at {authority} does not know the id of this cluster: it is no node, or one of another cluster"
        );
        assert_eq!((CALLED, SHARDS), (2, 4));
        for (answer, verdict, message) in [
            (Welcome { node_id: 9, ..welcome() }, Verdict::Node, other_node),
            (Welcome { cluster: 9, ..welcome() }, Verdict::Cluster, other_cluster),
            (Welcome { shard_count: 5, ..welcome() }, Verdict::Shards, format!("{authority} has 5 shards, expected 4")),
            (
                Welcome { version: PROTOCOL_VERSION + 1, ..welcome() },
                Verdict::Version,
                "the node speaks protocol 2, expected 1".to_owned(),
            ),
        ] {
            let stream = peer.answer(&answer).await;
            assert_eq!(events.recv().await, Some(LinkEvent::Refused { verdict, message }));
            assert_eq!(Frames::of(stream).next().await, None, "the link hangs up");
        }
        link.close();
    });
}

#[test]
fn an_answer_that_is_no_welcome_is_a_failure() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
        let mut sound = Vec::new();
        welcome().encode(&mut sound);
        let mut too_long = Vec::new();
        net::frame::encode_frame(&mut too_long, net::handshake::KIND_WELCOME, 0, 0, 0, &[0; 2049]);
        let answers: [(&[u8], &str); 5] = [
            (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "frame header has checksum "),
            (&sound[..40], "the peer closed the connection during the handshake"),
            (b"", "the peer closed the connection during the handshake"),
            (&too_long[..32], "frame body has 2049 bytes, the limit of this connection is 2048"),
            (&frame(1, 10), "the kind of a handshake frame has the unknown value 71"),
        ];
        let mut last = "";
        for (answer, expected) in answers {
            let (mut stream, _hello) = peer.accept_hello().await;
            stream.write_all(answer).await.expect("an open connection");
            stream.close().await.expect("an open connection");
            // The same reason twice in a row is reported once.
            if expected == last {
                continue;
            }
            last = expected;
            match events.recv().await {
                Some(LinkEvent::Failed { reason }) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        link.close();
    });
}

#[test]
fn a_peer_that_is_not_there_is_reported_once_and_found_when_it_comes() {
    on_an_executor(async {
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        reserved.set_reuse_address(true).expect("an option");
        reserved.set_reuse_port(true).expect("an option");
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
        reserved.bind(&any.into()).expect("a free port");
        let address = reserved.local_addr().expect("an address").as_socket().expect("an IP address");
        let (link, events) = link_to(&address.to_string(), HelloRole::PeerControl, LIMIT);
        match events.recv().await {
            Some(LinkEvent::Failed { reason }) => assert!(reason.contains("onnection refused"), "{reason}"),
            other => panic!("{other:?}"),
        }
        let peer = Peer::start_at(address);
        let stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()), "the failures in between are the one that was reported");
        // A process that ends and starts again at the same place.
        drop((stream, peer));
        assert!(matches!(events.recv().await, Some(LinkEvent::Down { .. })));
        let peer = match events.recv().await {
            // It may have found the port closed before.
            Some(LinkEvent::Failed { .. }) => Peer::start_at(address),
            other => panic!("{other:?}"),
        };
        let _stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        link.close();
    });
}

#[test]
fn a_link_that_breaks_drops_what_was_queued_and_comes_back() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerBulk, LIMIT);
        let stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        while link.push(|out| out.extend_from_slice(&frame(1, 4096))).is_ok() {
            glommio::executor().yield_now().await;
        }
        drop(stream);
        assert!(matches!(events.recv().await, Some(LinkEvent::Down { .. })));
        assert_eq!(link.queued_bytes(), None, "what was queued is gone, and leaves no room to wait for");
        assert_eq!(link.push(|_| panic!("nothing is queued for a link that is down")), Err(NotTaken::Closed));
        let mut frames = Frames::of(peer.accept().await);
        assert_eq!(events.recv().await, Some(up()));
        link.push(|out| out.extend_from_slice(&frame(2, 10))).expect("room");
        assert_eq!(frames.next().await, Some(2), "nothing of before");
        link.close();
    });
}

#[test]
fn a_peer_that_speaks_where_it_only_listens_is_cut_off() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
        let mut stream = peer.accept().await;
        assert_eq!(events.recv().await, Some(up()));
        stream.write_all(b"x").await.expect("an open connection");
        let reason = "the peer sent bytes on a connection that it only reads from".to_owned();
        assert_eq!(events.recv().await, Some(LinkEvent::Down { reason }));
        link.close();
    });
}

#[test]
fn a_full_bulk_lane_refuses_and_the_control_lane_goes_on() {
    on_an_executor(async {
        let peer = Peer::start();
        let authority = peer.address().to_string();
        let (bulk, bulk_events) = link_to(&authority, HelloRole::PeerBulk, LIMIT);
        // Nobody reads this connection.
        let stuck = peer.accept().await;
        assert_eq!(bulk_events.recv().await, Some(up()));
        let (control, control_events) = link_to(&authority, HelloRole::PeerControl, LIMIT);
        let mut control_frames = Frames::of(peer.accept().await);
        assert_eq!(control_events.recv().await, Some(up()));

        let mut pushed = 0;
        for id in 0..500_u64 {
            // What the kernel takes it takes; from then on the queue holds its limit and not more.
            while bulk.push(|out| out.extend_from_slice(&frame(pushed, 8192))).is_ok() {
                pushed += 1;
                glommio::executor().yield_now().await;
            }
            assert_eq!(bulk.push(|_| panic!("a full queue takes nothing")), Err(NotTaken::Full));
            assert!(bulk.queued_bytes() >= Some(LIMIT) && control.queued_bytes() < Some(LIMIT), "each has its own");
            control.push(|out| out.extend_from_slice(&frame(id, 20))).expect("room in the control lane");
            assert_eq!(control_frames.next().await, Some(id), "while the bulk lane stands still");
        }
        // Once the peer reads again, everything comes that was taken, and nothing that was refused.
        let mut bulk_frames = Frames::of(stuck);
        for id in 0..pushed {
            assert_eq!(bulk_frames.next().await, Some(id));
        }
        bulk.push(|out| out.extend_from_slice(&frame(pushed, 8192))).expect("room again");
        assert_eq!(bulk_frames.next().await, Some(pushed));
        bulk.close();
        control.close();
        assert_eq!((bulk_frames.next().await, control_frames.next().await), (None, None));
    });
}

#[test]
fn a_closed_link_writes_what_is_queued_and_does_not_come_back() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
        let mut frames = Frames::of(peer.accept().await);
        assert_eq!(events.recv().await, Some(up()));
        for id in 0..10 {
            link.push(|out| out.extend_from_slice(&frame(id, 10))).expect("room");
        }
        link.close();
        assert_eq!(link.push(|_| panic!("a closed link takes nothing")), Err(NotTaken::Closed));
        for id in 0..10 {
            assert_eq!(frames.next().await, Some(id));
        }
        assert_eq!(frames.next().await, None);
        assert_eq!(events.recv().await, Some(LinkEvent::Down { reason: "the link was closed".to_owned() }));
        assert_eq!(events.recv().await, None, "its task is over");
        peer.assert_nobody_waits().await;
    });
}

#[test]
fn a_link_that_is_closed_while_it_connects_hangs_up() {
    on_an_executor(async {
        let peer = Peer::start();
        let (link, events) = link_to(&peer.address().to_string(), HelloRole::PeerControl, LIMIT);
        let (mut stream, hello) = peer.accept_hello().await;
        link.close();
        send_welcome(&mut stream, &hello, &welcome()).await;
        assert_eq!(Frames::of(stream).next().await, None);
        assert_eq!(events.recv().await, None, "it never was up, and its task is over");
        peer.assert_nobody_waits().await;
    });
}
