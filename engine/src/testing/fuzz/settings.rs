//! Checks of settings: files, addresses, lists, and what validation promises.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::config::{
    ClusterState, Config, ConfigError, LogFormat, LogLevel, Url, ValidConfig, WalIo, cluster_id, node_id,
    parse_initial_cluster, parse_list,
};
use crate::limits::{HEARTBEATS_PER_ELECTION_MIN, REQUESTS_PER_SEGMENT_MIN, VOTERS_MAX};
use crate::types::NodeId;

/// A settings file.
pub fn config_toml(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match toml::from_str::<Config>(text) {
        Ok(config) => {
            let written = file_of(&config);
            let again = toml::from_str::<Config>(&written).unwrap_or_else(|error| panic!("{error} in {written}"));
            assert_eq!(again, config, "{written}");
            check_config(&config);
        }
        Err(error) => {
            assert!(error.span().is_none_or(|span| text.get(span).is_some()), "{:?} of {text:?}", error.span());
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A file with every setting.
fn file_of(config: &Config) -> String {
    let mut text = String::new();
    for (key, value) in values_of(config) {
        writeln!(text, "{key} = {value}").expect("a string takes everything");
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_list(elements: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = elements.into_iter().map(|element| quoted(&element)).collect();
    format!("[{}]", quoted.join(", "))
}

/// Every setting by its name, as a file has it; one that is not given is left out.
fn values_of(config: &Config) -> Vec<(&'static str, String)> {
    let data_dir = config.data_dir.as_ref().map(|path| quoted(path.to_str().expect("a file holds text")));
    let members = config.initial_cluster.iter().map(|(name, url)| format!("{name}={url}"));
    let mut values = vec![
        ("name", quoted(&config.name)),
        ("listen-client-urls", quoted_list(config.listen_client_urls.clone())),
        ("advertise-client-urls", quoted_list(config.advertise_client_urls.clone())),
        ("listen-peer-urls", quoted_list(config.listen_peer_urls.clone())),
        ("initial-advertise-peer-urls", quoted_list(config.initial_advertise_peer_urls.clone())),
        ("initial-cluster", quoted_list(members)),
        ("initial-cluster-state", quoted(&config.initial_cluster_state.to_string())),
        ("initial-cluster-token", quoted(&config.initial_cluster_token)),
        ("cores", config.cores.to_string()),
        ("shards", config.shards.to_string()),
        ("wal-io", quoted(&config.wal_io.to_string())),
        ("heartbeat-interval", config.heartbeat_interval_ms.to_string()),
        ("election-timeout", config.election_timeout_ms.to_string()),
        ("segment-bytes", config.segment_bytes.to_string()),
        ("max-request-bytes", config.max_request_bytes.to_string()),
        ("max-txn-ops", config.max_txn_ops.to_string()),
        ("quota-backend-bytes", config.quota_backend_bytes.to_string()),
        ("max-connections", config.max_connections.to_string()),
        ("max-requests-per-connection", config.max_requests_per_connection.to_string()),
        ("max-queued-bytes", config.max_queued_bytes.to_string()),
        ("pin-cores", config.pin_cores.to_string()),
        ("spin-us", config.spin_us.to_string()),
        ("slow-disk-handover-ms", config.slow_disk_handover_ms.to_string()),
        ("log-level", quoted(&config.log_level.to_string())),
        ("log-format", quoted(&config.log_format.to_string())),
    ];
    values.extend(data_dir.map(|path| ("data-dir", path)));
    values
}

/// Settings are refused for a setting that there is, or hold what `ValidConfig` promises.
fn check_config(config: &Config) {
    let result = config.clone().validate();
    assert_eq!(config.clone().validate(), result, "nothing but the settings decides");
    match result {
        Ok(valid) => check_valid(config, &valid),
        Err(error) => {
            let message = error.to_string();
            let flag = message.strip_prefix("--").and_then(|rest| rest.split_once(": ")).map(|(flag, _)| flag);
            let is_known =
                flag.is_some_and(|flag| flag == "data-dir" || values_of(config).iter().any(|(key, _)| *key == flag));
            assert!(is_known, "{message}");
        }
    }
}

fn check_valid(config: &Config, valid: &ValidConfig) {
    let members = valid.members();
    assert!((1..=VOTERS_MAX).contains(&members.len()), "{members:?}");
    assert!(members.is_sorted_by(|one, other| one.id < other.id), "{members:?}");
    let own = members.iter().find(|member| member.id == valid.node_id()).expect("a member");
    assert_eq!(own.name, valid.name());
    let mut used: Vec<&Url> = Vec::new();
    for member in members {
        assert!(!member.peer_urls.is_empty() && member.peer_urls.is_sorted(), "{member:?}");
        assert_eq!(member.id, node_id(&config.initial_cluster_token, &member.peer_urls));
        used.extend(&member.peer_urls);
    }
    let ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
    assert_eq!(valid.cluster_id(), cluster_id(&config.initial_cluster_token, &ids));
    assert!(valid.cluster_id().get() != 0 && ids.iter().all(|id| id.get() != 0), "0 is no identity");
    assert!(used.iter().chain(&valid.advertise_client().iter().collect::<Vec<_>>()).all(|url| !url.is_unspecified()));
    used.sort();
    assert!(used.is_sorted_by(|one, other| one < other), "{used:?}");
    let mut bound: Vec<SocketAddr> = valid.listen_client().iter().chain(valid.listen_peer()).copied().collect();
    bound.sort();
    assert!(bound.is_sorted_by(|one, other| one < other), "{bound:?}");
    assert!(
        !valid.listen_client().is_empty() && !valid.listen_peer().is_empty() && !valid.advertise_client().is_empty()
    );
    assert!(valid.election_timeout_ms() >= HEARTBEATS_PER_ELECTION_MIN * valid.heartbeat_interval_ms());
    assert!(valid.heartbeat_interval_ms() > 0 && valid.cores() > 0 && valid.shards() > 0);
    assert!(valid.segment_bytes() >= REQUESTS_PER_SEGMENT_MIN * valid.limits().request_bytes);
    assert!(valid.limits().queued_bytes >= valid.limits().request_bytes);
    assert!(!valid.data_dir().as_os_str().is_empty());
    // What all nodes are given gives all of them the same identities, in whatever order.
    let mut reversed = config.clone();
    reversed.initial_cluster.reverse();
    let reversed = reversed.validate().expect("the order makes no difference");
    assert_eq!((reversed.members(), reversed.cluster_id()), (members, valid.cluster_id()));
    let listed = parse_initial_cluster(&format_initial_cluster(&config.initial_cluster));
    assert_eq!(listed.as_ref(), Ok(&config.initial_cluster));
}

/// The list that `parse_initial_cluster` reads.
fn format_initial_cluster(members: &[(String, String)]) -> String {
    let elements: Vec<String> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    elements.join(",")
}

/// Values as flags and variables give them.
///
/// The input is text, a value in each line. Each is read as everything that it could be; then the lines together are
/// name, client and peer listen URLs, peer advertise URLs, members and token of one node.
pub fn config_urls(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    for value in text.split('\n') {
        check_url(value);
        check_list(value);
        check_members(value);
        check_words(value);
    }
    let mut lines = text.split('\n').filter(|line| !line.is_empty());
    let mut config = Config::default();
    if let Some(name) = lines.next() {
        config.name = name.to_owned();
    }
    let lists = [&mut config.listen_client_urls, &mut config.listen_peer_urls, &mut config.initial_advertise_peer_urls];
    for (list, value) in lists.into_iter().zip(&mut lines) {
        *list = parse_list(value);
    }
    if let Some(Ok(members)) = lines.next().map(parse_initial_cluster) {
        config.initial_cluster = members;
    }
    if let Some(token) = lines.next() {
        config.initial_cluster_token = token.to_owned();
    }
    check_config(&config);
}

/// An address prints as what reads back as the same address, and says the same of it everywhere.
fn check_url(text: &str) {
    let parsed = Url::parse(text);
    let endpoint = Url::parse_endpoint(text);
    if text.contains("://") {
        assert_eq!(endpoint, parsed, "{text:?}");
    } else {
        assert!(parsed.is_err(), "{text:?} has no scheme");
    }
    let Ok(url) = endpoint else { return };
    assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url), "{text:?}");
    assert_eq!(Url::parse_endpoint(&url.authority()).as_ref(), Ok(&url), "{text:?}");
    assert!(url.port() != 0 && !url.host().is_empty(), "{url:?}");
    assert_eq!(url.host(), url.host().to_ascii_lowercase());
    assert!(!url.to_string().contains(|c: char| c == ',' || c == '=' || c.is_whitespace()), "{url} in a list");
    match url.bind_address() {
        Some(address) if url.host() != "localhost" => {
            assert_eq!(address.to_string(), url.authority(), "{text:?}");
            assert_eq!(address.ip().to_canonical().is_unspecified(), url.is_unspecified(), "{text:?}");
        }
        Some(address) => assert!(address.ip().is_loopback() && address.port() == url.port()),
        None => assert!(!url.is_unspecified(), "{text:?}"),
    }
}

fn check_list(text: &str) {
    let list = parse_list(text);
    assert!(list.iter().all(|element| !element.is_empty() && element.trim() == element && !element.contains(',')));
    assert_eq!(parse_list(&list.join(",")), list);
    assert_eq!(parse_list(&list.join(" ,, ")), list);
}

fn check_members(text: &str) {
    match parse_initial_cluster(text) {
        Ok(members) => {
            assert!(members.iter().all(|(name, url)| !name.is_empty() && !url.is_empty()), "{members:?}");
            assert_eq!(members.len(), parse_list(text).len());
            assert_eq!(parse_initial_cluster(&format_initial_cluster(&members)), Ok(members));
        }
        Err(ConfigError::ClusterSyntax { element }) => assert!(parse_list(text).contains(&element), "{element:?}"),
        Err(error) => panic!("{error} of {text:?}"),
    }
}

fn check_words(text: &str) {
    fn check<T: std::str::FromStr<Err = ConfigError> + std::fmt::Display>(text: &str) {
        match text.parse::<T>() {
            Ok(word) => assert_eq!(word.to_string(), text),
            Err(ConfigError::UnknownWord { got, expected, .. }) => {
                assert!(got == text && expected.split(", ").all(|word| word.parse::<T>().is_ok()), "{expected}");
            }
            Err(error) => panic!("{error} of {text:?}"),
        }
    }
    check::<ClusterState>(text);
    check::<WalIo>(text);
    check::<LogLevel>(text);
    check::<LogFormat>(text);
}
