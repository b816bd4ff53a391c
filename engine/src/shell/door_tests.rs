//! What callers learn from the answer to their handshake.

use super::*;
use crate::config::Config;

fn door() -> Door {
    let config = Config {
        name: "a-name".to_owned(),
        listen_client_urls: vec!["http://127.0.0.1:1".to_owned()],
        listen_peer_urls: vec!["http://127.0.0.1:2".to_owned()],
        initial_advertise_peer_urls: vec!["http://127.0.0.1:2".to_owned()],
        initial_cluster: ["a-name=http://127.0.0.1:2", "b=http://127.0.0.1:3"]
            .iter()
            .filter_map(|member| member.split_once('='))
            .map(|(name, url)| (name.to_owned(), url.to_owned()))
            .collect(),
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("valid settings"));
    let metrics = NodeMetrics::new(config.shards());
    let others = config.members().iter().map(|member| member.id).filter(|id| *id != config.node_id()).collect();
    Door::new(config, Roster::new([others].into_iter()), Resolver::default(), metrics, 16)
}

/// The `Hello` of the other member.
fn hello(door: &Door) -> Hello {
    let config = &door.config;
    let other = config.members().iter().find(|member| member.id != config.node_id()).expect("two members");
    let hello = Hello {
        version: PROTOCOL_VERSION,
        role: HelloRole::PeerBulk,
        shard_count: config.shards(),
        shard: 0,
        cluster: 0,
        from: other.id.get(),
        to: config.node_id().get(),
        nonce: 0,
        name: "b".to_owned(),
    };
    proving(hello, config.cluster_id().get())
}

fn proving(mut hello: Hello, cluster_id: u64) -> Hello {
    hello.prove(cluster_id, 11);
    hello
}

/// Whether an answer says anything of `id`, as a number or as a text.
fn names(welcome: &Welcome, id: u64) -> bool {
    let mut bytes = Vec::new();
    welcome.encode(&mut bytes);
    let text = format!("{id:016x}");
    bytes.windows(8).any(|window| window == id.to_le_bytes())
        || bytes.windows(16).any(|window| window == text.as_bytes())
}

#[test]
fn a_stranger_at_the_peer_port_learns_neither_cluster_nor_node() {
    let door = door();
    let right = hello(&door);
    let (cluster, node) = (door.config.cluster_id().get(), right.to);
    let wrong = |change: &dyn Fn(&mut Hello)| {
        let mut hello = right.clone();
        change(&mut hello);
        proving(hello, cluster ^ 1)
    };
    let strangers = [
        wrong(&|_| {}),
        wrong(&|hello| hello.to = 7),
        wrong(&|hello| hello.from = 7),
        wrong(&|hello| hello.shard_count = 99),
        wrong(&|hello| hello.role = HelloRole::Client),
        wrong(&|hello| hello.version = 77),
    ];
    for (is_stopping, stranger) in strangers.iter().flat_map(|hello| [(false, hello), (true, hello)]) {
        let refusal = door.judge_peer(stranger, is_stopping).expect("a refusal");
        let welcome = door.welcome_peer(stranger, Some(&refusal));
        assert_eq!(welcome, Welcome::to_stranger(refusal.verdict, welcome.message.clone()), "{stranger:?}");
        assert!(!names(&welcome, cluster) && !names(&welcome, node), "{welcome:?}");
        assert!(!welcome.message.contains("a-name"), "{welcome:?}");
    }
    // Whoever heard what a member said learned nothing that is good for anything else, nor the id.
    let named = Hello { cluster, ..right.clone() };
    for stranger in [Hello { role: HelloRole::PeerRelay, ..right.clone() }, named] {
        assert_eq!(door.judge_peer(&stranger, false).map(|refusal| refusal.verdict), Some(Verdict::Cluster));
    }
    let mut said = Vec::new();
    right.encode(&mut said);
    assert!(!said.windows(8).any(|window| window == cluster.to_le_bytes()), "the id is not said");
    // The node's own log says what was expected.
    let refusal = door.judge_peer(&strangers[0], false).expect("a refusal");
    assert_eq!(refusal.verdict, Verdict::Cluster);
    assert!(refusal.said.contains(&format!("{cluster:016x}")), "{}", refusal.said);
}

#[test]
fn whoever_knows_the_cluster_learns_whom_it_reached() {
    let door = door();
    let right = hello(&door);
    let cluster = door.config.cluster_id().get();
    assert_eq!(door.judge_peer(&right, false), None);
    let welcome = door.welcome_peer(&right, None);
    assert_eq!((welcome.node_id, &welcome.name[..]), (right.to, "a-name"));
    assert_eq!(Some(welcome.cluster), right.answer(cluster));
    assert!(!names(&welcome, cluster), "{welcome:?}");
    assert!(!welcome.client_url.is_empty());
    for (wrong, verdict) in [
        (Hello { to: 7, ..right.clone() }, Verdict::Node),
        (Hello { from: right.to, ..right.clone() }, Verdict::Member),
        (Hello { shard: 1, ..right.clone() }, Verdict::Shards),
    ] {
        let wrong = proving(wrong, cluster);
        let refusal = door.judge_peer(&wrong, false).expect("a refusal");
        let welcome = door.welcome_peer(&wrong, Some(&refusal));
        assert_eq!((welcome.verdict, welcome.node_id), (verdict, right.to));
        assert!(welcome.client_url.is_empty());
        // Whoever brings it the words that a caller meant for another node gets nothing to answer that caller with.
        assert_eq!(welcome.cluster, 0);
    }
}

#[test]
fn a_client_learns_the_public_id_and_neither_node_nor_what_opens_the_peer_port() {
    let door = door();
    let cluster = door.config.cluster_id().get();
    let client = Hello::of_client();
    assert_eq!(door.judge_client(&client, false), None);
    let welcome = door.welcome_client(None, ClientLimits::default());
    let node = door.config.node_id().get();
    assert!(!names(&welcome, cluster) && !names(&welcome, node) && welcome.name.is_empty(), "{welcome:?}");
    assert_ne!(welcome.cluster, 0);
    assert_eq!(welcome.shard_count, door.config.shards());
    let expecting = |cluster| Hello { cluster, ..client.clone() };
    assert_eq!(door.judge_client(&expecting(welcome.cluster), false), None, "it may name what it learned");
    let refusal = door.judge_client(&expecting(cluster), false).expect("that is not what clients know");
    assert_eq!(refusal.verdict, Verdict::Cluster);
    let refused = door.welcome_client(Some(&refusal), ClientLimits::default());
    assert!(!names(&refused, welcome.cluster), "{refused:?}");
    assert!(refusal.said.contains(&format!("{:016x}", welcome.cluster)), "{}", refusal.said);
    // What a client learned does not open the peer port.
    let forged = proving(hello(&door), welcome.cluster);
    assert_eq!(door.judge_peer(&forged, false).map(|refusal| refusal.verdict), Some(Verdict::Cluster));
    let busy = TurnedAway::busy(1);
    assert_eq!(door.welcome_client(Some(&busy), ClientLimits::default()).node_id, 0);
}

#[test]
fn who_is_a_member_says_the_log_and_not_the_settings() {
    let door = door();
    let member = hello(&door);
    let cluster = door.config.cluster_id().get();
    assert_eq!(door.judge_peer(&member, false), None);
    let joined = proving(Hello { from: 77, ..member.clone() }, cluster);
    assert_eq!(door.judge_peer(&joined, false).map(|refusal| refusal.verdict), Some(Verdict::Member));
    door.roster.set(ShardId::new(0), [NodeId::new(77)].into());
    assert_eq!(door.judge_peer(&joined, false), None);
    assert_eq!(door.judge_peer(&member, false).map(|refusal| refusal.verdict), Some(Verdict::Member));
    let own = proving(Hello { from: member.to, ..member }, cluster);
    assert_eq!(door.judge_peer(&own, false).map(|refusal| refusal.verdict), Some(Verdict::Member));
}
