//! Settings: defaults, one row per thing that is refused, and golden identities.

use super::*;

fn cluster_of_three() -> Config {
    Config {
        name: "a".to_owned(),
        listen_client_urls: vec!["http://10.0.0.1:2379".to_owned()],
        listen_peer_urls: vec!["http://10.0.0.1:2380".to_owned()],
        initial_cluster: parse_initial_cluster(
            "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://node-c.example:2380",
        )
        .expect("well-formed"),
        ..Config::default()
    }
}

#[test]
fn no_settings_at_all_give_one_node_on_the_ports_of_etcd() {
    let config = Config::default().validate().expect("valid");
    assert_eq!(config.name(), "default");
    assert_eq!(config.data_dir().to_str(), Some("default.quorate"));
    assert_eq!(config.listen_client()[0].to_string(), "127.0.0.1:2379");
    assert_eq!(config.listen_peer()[0].to_string(), "127.0.0.1:2380");
    assert_eq!(config.advertise_client()[0].to_string(), "http://localhost:2379");
    assert_eq!(config.members().len(), 1);
    assert_eq!(config.members()[0].id, config.node_id());
    assert_eq!(config.members()[0].peer_urls[0].to_string(), "http://localhost:2380");
}

#[test]
fn every_node_of_a_cluster_derives_the_same_identities() {
    let a = cluster_of_three().validate().expect("valid");
    let b = Config {
        name: "b".to_owned(),
        listen_client_urls: vec!["http://0.0.0.0:2379".to_owned()],
        advertise_client_urls: vec!["http://10.0.0.2:2379".to_owned()],
        listen_peer_urls: vec!["http://0.0.0.0:2380".to_owned()],
        initial_advertise_peer_urls: vec!["http://10.0.0.2:2380".to_owned()],
        initial_cluster: cluster_of_three().initial_cluster.into_iter().rev().collect(),
        ..Config::default()
    };
    let b = b.validate().expect("valid");
    assert_eq!(a.members(), b.members());
    assert_eq!(a.cluster_id(), b.cluster_id());
    assert_ne!(a.node_id(), b.node_id());
    assert!(a.members().is_sorted_by_key(|member| member.id));
}

#[test]
fn the_default_token_beyond_loopback_lets_impostors_in() {
    let lets_in = |config: Config| config.validate().expect("valid").lets_impostors_in();
    assert!(lets_in(cluster_of_three()));
    assert!(!lets_in(Config { initial_cluster_token: "of its own".to_owned(), ..cluster_of_three() }));
    let listening = |url: &str| Config { listen_peer_urls: vec![url.to_owned()], ..cluster_of_three() };
    let advertised = |config| Config { initial_advertise_peer_urls: vec!["http://10.0.0.1:2380".to_owned()], ..config };
    for (url, expected) in [
        ("http://0.0.0.0:2380", true),
        ("http://[::]:2380", true),
        ("http://127.0.0.1:2380", false),
        ("http://[::1]:2380", false),
        ("http://localhost:2380", false),
    ] {
        assert_eq!(lets_in(advertised(listening(url))), expected, "{url}");
    }
    let alone = Config { listen_peer_urls: vec!["http://10.0.0.1:2380".to_owned()], ..Config::default() };
    assert!(!lets_in(alone), "nobody passes for the only member");
}

/// These values are on disks and in handshakes: a change here is a change of format.
#[test]
fn identities_are_pinned() {
    let url = |text| Url::parse(text).expect("well-formed");
    let one = node_id("quorate-cluster", &[url("http://localhost:2380")]);
    assert_eq!(one.to_string(), "20222b45f9f51731");
    let two = node_id("t", &[url("http://10.0.0.2:2380"), url("http://[::1]:1")]);
    assert_eq!(two, node_id("t", &[url("http://[::1]:1"), url("HTTP://10.0.0.2:2380")]));
    assert_eq!(two.to_string(), "8240ea388517e9f8");
    assert_eq!(cluster_id("t", &[one, two]).to_string(), "4834cd59562d1980");
    assert_eq!(cluster_id("t", &[two, one]), cluster_id("t", &[one, two]));
    assert_ne!(cluster_id("u", &[one, two]), cluster_id("t", &[one, two]));
    assert_eq!(PublicClusterId::of(cluster_id("t", &[one, two])).to_string(), "3c0bc876e5e95665");
}

#[test]
fn one_member_may_have_several_peer_urls() {
    let mut config = cluster_of_three();
    config.listen_peer_urls.push("http://10.1.0.1:2380".to_owned());
    config.initial_cluster.push(("a".to_owned(), "http://10.1.0.1:2380".to_owned()));
    let config = config.validate().expect("valid");
    let own = config.members().iter().find(|member| member.id == config.node_id()).expect("a member");
    assert_eq!(own.peer_urls.len(), 2);
}

fn message(change: impl FnOnce(&mut Config)) -> String {
    let mut config = cluster_of_three();
    change(&mut config);
    config.validate().expect_err("must be refused").to_string()
}

fn urls(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn bad_names_and_words_are_named() {
    let name_rule = "must be 1 to 64 bytes without whitespace, control characters, ',', '=' and '/'";
    assert_eq!(message(|c| c.name = String::new()), format!("--name: name \"\" {name_rule}"));
    assert_eq!(message(|c| c.name = "a b".to_owned()), format!("--name: name \"a b\" {name_rule}"));
    assert_eq!(message(|c| c.name = "../x".to_owned()), format!("--name: name \"../x\" {name_rule}"));
    assert_eq!(
        message(|c| c.initial_cluster[1].0 = "b\n".to_owned()),
        format!("--initial-cluster: name \"b\\n\" {name_rule}")
    );
    assert_eq!(message(|c| c.initial_cluster_token.clear()), "--initial-cluster-token: it must not be empty");
    assert_eq!(message(|c| c.data_dir = Some(PathBuf::new())), "--data-dir: it must not be empty");
    assert_eq!(message(|c| c.wal_io = WalIo::Direct), "--wal-io: direct is not supported yet; use mmap");
    assert_eq!(
        "loud".parse::<LogLevel>().expect_err("unknown").to_string(),
        "--log-level: \"loud\" is unknown; it is one of error, warn, info, debug, trace"
    );
    assert_eq!(
        "old".parse::<ClusterState>().expect_err("unknown").to_string(),
        "--initial-cluster-state: \"old\" is unknown; it is one of new, existing"
    );
}

#[test]
fn bad_urls_are_named_with_what_would_be_right() {
    let scheme = "write it as http://host:port";
    let bare = "only http://host:port is allowed, without a path, query or user";
    let host = "the host is missing or malformed (IPv6 addresses go in brackets: http://[::1]:2380)";
    let port = "the port must be given, from 1 to 65535";
    let rows = [
        ("10.0.0.1:2379", scheme),
        ("", scheme),
        ("unix:///tmp/x", scheme),
        ("https://10.0.0.1:2379", "TLS is not supported yet; use http:// on a network you trust"),
        ("http://10.0.0.1:2379/", bare),
        ("http://10.0.0.1:2379?x", bare),
        ("http://me@10.0.0.1:2379", bare),
        ("http://:2379", host),
        ("http://10.0.0.256:1", host),
        ("http://exa mple:1", host),
        ("http://-x:1", host),
        ("http://[::1:2379", host),
        ("http://[zz]:1", host),
        ("http://[::1]", port),
        ("http://10.0.0.1", port),
        ("http://10.0.0.1:", port),
        ("http://10.0.0.1:0", port),
        ("http://10.0.0.1:+80", port),
        ("http://10.0.0.1:65536", port),
        ("http://::1:2379", host),
        ("http://example.org:2379", "listening needs an IP address or localhost, not a host name"),
    ];
    for (url, reason) in rows {
        let expected = format!("--listen-client-urls: {url:?}: {reason}");
        assert_eq!(message(|c| c.listen_client_urls = urls(&[url])), expected);
    }
    let unspecified = "others cannot connect to an unspecified address; give one that they can reach";
    assert_eq!(
        message(|c| c.advertise_client_urls = urls(&["http://0.0.0.0:2379"])),
        format!("--advertise-client-urls: \"http://0.0.0.0:2379\": {unspecified}")
    );
    assert_eq!(
        message(|c| c.initial_cluster[2].1 = "http://[::]:2380".to_owned()),
        format!("--initial-cluster: \"http://[::]:2380\": {unspecified}")
    );
    assert_eq!(
        message(|c| c.advertise_client_urls = urls(&["http://[::ffff:0.0.0.0]:2379"])),
        format!("--advertise-client-urls: \"http://[::ffff:0.0.0.0]:2379\": {unspecified}")
    );
}

#[test]
fn lists_of_urls_must_be_there_and_without_duplicates() {
    let twice = "is given twice; every address can be used once";
    assert_eq!(message(|c| c.listen_peer_urls.clear()), "--listen-peer-urls: at least one URL is needed");
    assert_eq!(message(|c| c.listen_client_urls.clear()), "--listen-client-urls: at least one URL is needed");
    assert_eq!(
        message(|c| c.listen_peer_urls = c.listen_client_urls.clone()),
        format!("--listen-peer-urls: http://10.0.0.1:2379 {twice}")
    );
    assert_eq!(
        message(|c| c.listen_client_urls = urls(&["http://localhost:1", "http://127.0.0.1:1"])),
        format!("--listen-client-urls: http://127.0.0.1:1 {twice}")
    );
    assert_eq!(
        message(|c| c.advertise_client_urls = urls(&["http://A.b:1", "http://a.b:1"])),
        format!("--advertise-client-urls: http://a.b:1 {twice}")
    );
    assert_eq!(
        message(|c| c.listen_client_urls = urls(&["http://0.0.0.0:2379"])),
        "--advertise-client-urls: give it when listening on http://0.0.0.0:2379, which others cannot connect to"
    );
}

#[test]
fn the_cluster_must_contain_this_node_as_it_advertises_itself() {
    assert_eq!(
        message(|c| c.name = "d".to_owned()),
        "--initial-cluster: it lists a, b, c, but not this node, --name d"
    );
    assert_eq!(
        message(|c| c.initial_cluster[0].1 = "http://10.0.0.9:2380".to_owned()),
        "--initial-cluster: it has a at http://10.0.0.9:2380, but --initial-advertise-peer-urls says \
         http://10.0.0.1:2380; both must be the same"
    );
    assert_eq!(
        message(|c| c.initial_cluster[1].1 = "http://10.0.0.1:2380".to_owned()),
        "--initial-cluster: http://10.0.0.1:2380 is given twice; every address can be used once"
    );
    let many = (1..=8).map(|n| (format!("n{n}"), format!("http://10.0.0.{n}:2380"))).collect();
    assert_eq!(message(|c| c.initial_cluster = many), "--initial-cluster: 8 voters are too many; at most 7");
    for bad in ["a", "=http://x:1", "a="] {
        assert_eq!(
            parse_initial_cluster(bad).expect_err("no pair").to_string(),
            format!("--initial-cluster: {bad:?} is not name=http://host:port")
        );
    }
}

#[test]
fn numbers_have_bounds() {
    let range =
        |flag, got: u64, min: u64, max: u64| format!("--{flag}: {got} is out of range; it must be from {min} to {max}");
    assert_eq!(message(|c| c.cores = 0), range("cores", 0, 1, 1024));
    assert_eq!(message(|c| c.shards = 257), range("shards", 257, 1, 256));
    assert_eq!(message(|c| c.heartbeat_interval_ms = 0), range("heartbeat-interval", 0, 1, 10_000));
    assert_eq!(message(|c| c.election_timeout_ms = 50_001), range("election-timeout", 50_001, 5, 50_000));
    assert_eq!(message(|c| c.segment_bytes = 4096), range("segment-bytes", 4096, 1 << 20, 1 << 30));
    assert_eq!(message(|c| c.max_request_bytes = 1), range("max-request-bytes", 1, 1024, 32 << 20));
    assert_eq!(message(|c| c.max_txn_ops = 0), range("max-txn-ops", 0, 1, 4096));
    assert_eq!(message(|c| c.quota_backend_bytes = 0), range("quota-backend-bytes", 0, 16 << 20, u64::MAX));
    assert_eq!(message(|c| c.max_connections = 0), range("max-connections", 0, 1, u32::MAX.into()));
    assert_eq!(
        message(|c| c.max_requests_per_connection = 0),
        range("max-requests-per-connection", 0, 1, u32::MAX.into())
    );
    assert_eq!(message(|c| c.max_queued_bytes = 0), range("max-queued-bytes", 0, 1, u64::MAX));
    assert_eq!(message(|c| c.spin_us = 1_000_001), range("spin-us", 1_000_001, 0, 1_000_000));
    let slow_disk = range("slow-disk-handover-ms", 3_600_001, 0, 3_600_000);
    assert_eq!(message(|c| c.slow_disk_handover_ms = 3_600_001), slow_disk);
}

#[test]
fn numbers_must_fit_each_other() {
    assert_eq!(
        message(|c| c.election_timeout_ms = 249),
        "--election-timeout: 249 must be at least 5 times --heartbeat-interval (50)"
    );
    assert_eq!(message(|c| c.segment_bytes += 4096), "--segment-bytes: 67112960 must be a multiple of 65536");
    assert_eq!(
        message(|c| c.segment_bytes = 4 << 20),
        "--segment-bytes: 4194304 must be at least 4 times --max-request-bytes (1572864)"
    );
    assert_eq!(
        message(|c| c.max_queued_bytes = 1 << 20),
        "--max-queued-bytes: 1048576 must be at least --max-request-bytes (1572864)"
    );
}

#[test]
fn a_settings_table_has_the_names_of_the_flags_and_no_others() {
    let config: Config = serde_json::from_str(
        r#"{"name": "a", "listen-peer-urls": "http://10.0.0.1:2380", "wal-io": "mmap", "log-level": "info",
            "listen-client-urls": ["http://10.0.0.1:2379", "http://127.0.0.1:2379"], "cores": 2,
            "initial-cluster": "a=http://10.0.0.1:2380, b=http://10.0.0.2:2380", "initial-cluster-state": "existing"}"#,
    )
    .expect("a table");
    assert_eq!(config.listen_client_urls.len(), 2);
    let members = [("a", "http://10.0.0.1:2380"), ("b", "http://10.0.0.2:2380")];
    assert_eq!(config.initial_cluster, members.map(|(name, url)| (name.to_owned(), url.to_owned())));
    assert_eq!((config.cores, config.log_level), (2, LogLevel::Info));
    assert_eq!(config.validate().expect("valid").initial_cluster_state(), ClusterState::Existing);
    for bad in [r#"{"core": 2}"#, r#"{"cores": -1}"#, r#"{"initial-cluster": ["a"]}"#, r#"{"wal-io": "tape"}"#] {
        assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
    }
}
