//! The command line: etcdctl's habits, and agreement of flags, variables and file keys.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;
use engine::config::Config;
use proptest::prelude::*;

use super::*;
use crate::args::kv::{KeySpan, parse_lease};
use crate::args::{Consistency, WriteOut, parse_duration, parse_minutes};

fn parse(words: &[&str]) -> Cli {
    try_parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn try_parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("quorate").chain(words.iter().copied()))
}

fn kind(words: &[&str]) -> ErrorKind {
    try_parse(words).expect_err("must be refused").kind()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
    definition::command().debug_assert();
}

#[test]
fn endpoints_stand_before_or_after_the_command() {
    let endpoints = |words: &[&str]| -> Vec<String> { parse(words).global.endpoint_texts() };
    let given = "127.0.0.1:1,http://example.org:2,[::1]:3";
    let expected = ["127.0.0.1:1", "example.org:2", "[::1]:3"];
    assert_eq!(endpoints(&["--endpoints", given, "get", "k"]), expected);
    assert_eq!(endpoints(&["get", "k", "--endpoints", given]), expected);
    assert_eq!(endpoints(&["get", &format!("--endpoints={given}"), "k"]), expected);
    assert_eq!(endpoints(&["wal", "verify", "d", "--endpoints", given]), expected);
    assert_eq!(endpoints(&["status"]), ["127.0.0.1:2379"]);
    for spaced in ["127.0.0.1:1,http://example.org:2,[::1]:3,", ",127.0.0.1:1, http://example.org:2 ,,[::1]:3, "] {
        assert_eq!(endpoints(&["status", "--endpoints", spaced]), expected, "{spaced:?}");
    }
    assert_eq!(endpoints(&["status", "--endpoints", "a:1,", "--endpoints", "b:2"]), ["a:1", "b:2"]);
    for (list, reason) in [
        (",", "there is no endpoint in it"),
        (" ", "there is no endpoint in it"),
        ("a:1,b", "\"b\": the port must be given"),
        ("a:1,https://b:2", "\"https://b:2\": TLS is not supported yet"),
    ] {
        let error = try_parse(&["status", "--endpoints", list]).expect_err(list).to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(kind(&["status", "--endpoints", "nonsense"]), ErrorKind::ValueValidation);
    assert_eq!(kind(&["status", "--endpoints", "https://a:1"]), ErrorKind::ValueValidation);
}

#[test]
fn output_and_timeout_stand_anywhere_too() {
    let cli = parse(&["-w", "json", "status", "--command-timeout", "250ms"]);
    assert_eq!((cli.global.write_out, cli.global.command_timeout), (WriteOut::Json, Duration::from_millis(250)));
    let cli = parse(&["status", "--write-out=table"]);
    assert_eq!((cli.global.write_out, cli.global.command_timeout), (WriteOut::Table, Duration::from_secs(5)));
    assert_eq!(parse(&["status"]).global.write_out, WriteOut::Simple);
    let silence = |args: &[&str]| parse(args).global.keepalive_timeout;
    assert_eq!(silence(&["status", "--keepalive-timeout", "3s"]), Duration::from_secs(3));
    assert_eq!(silence(&["status"]), client::ClientOptions::default().silence_limit);
}

#[test]
fn durations_have_units() {
    let rows = [("5s", 5_000_000), ("3", 3_000_000), ("1.5m", 90_000_000), ("250us", 250), ("1h", 3_600_000_000)];
    for (text, expected_us) in rows {
        assert_eq!(parse_duration(text).map(|duration| duration.as_micros()), Ok(expected_us), "{text}");
    }
    for bad in ["", "s", "-1s", "5 s", "1e3s", "5d", "1.2.3s", "0", "0s", "0ms", "0.0", "99999999999999999999999h"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_time_of_nothing_is_refused_wherever_one_is_given() {
    let refused = [
        &["get", "k", "--command-timeout", "0"][..],
        &["get", "k", "--command-timeout=0s"],
        &["get", "k", "--keepalive-timeout", "0ms"],
        &["bench", "put", "--timeout-ms", "0"],
        &["bench", "put", "--seconds", "0"],
        &["demo", "--seconds", "0"],
        &["sim", "--minutes", "0"],
        &["sim", "--minutes=-1"],
        &["sim", "--minutes", "NaN"],
        &["sim", "--minutes", "inf"],
        &["chaos", "--minutes", "0"],
        &["chaos", "--minutes", "1e300"],
    ];
    for words in refused {
        assert_eq!(kind(words), ErrorKind::ValueValidation, "{words:?}");
    }
    assert_eq!(parse_minutes("0.5"), Ok(Duration::from_secs(30)));
}

fn span(words: &[&str]) -> (Vec<u8>, Vec<u8>) {
    match parse(words).command {
        Command::Client(ClientCommand::Get(get)) => get.span.bounds(),
        Command::Client(ClientCommand::Del(del)) => del.del.span.bounds(),
        other => panic!("expected a range, got {other:?}"),
    }
}

#[test]
fn spans_of_keys_are_encoded_as_in_etcd() {
    let pair = |key: &[u8], end: &[u8]| (key.to_vec(), end.to_vec());
    assert_eq!(span(&["get", "k"]), pair(b"k", b""));
    assert_eq!(span(&["get", "a", "z"]), pair(b"a", b"z"));
    assert_eq!(span(&["get", "k", "--prefix"]), pair(b"k", b"l"));
    assert_eq!(span(&["del", "--prefix", "k"]), pair(b"k", b"l"));
    assert_eq!(span(&["get", "", "--prefix"]), pair(&[0], &[0]));
    assert_eq!(span(&["get", "k", "--from-key"]), pair(b"k", &[0]));
    assert_eq!(span(&["del", "", "--from-key"]), pair(&[0], &[0]));
    for words in
        [&["get", "a", "b", "--prefix"][..], &["get", "a", "--prefix", "--from-key"], &["del", "a", "b", "--from-key"]]
    {
        assert_eq!(kind(words), ErrorKind::ArgumentConflict, "{words:?}");
    }
    assert_eq!(kind(&["get"]), ErrorKind::MissingRequiredArgument);
}

#[test]
fn a_prefix_of_highest_bytes_has_no_end() {
    let span =
        |key: &[u8]| KeySpan { key: OsString::from_vec(key.to_vec()), range_end: None, prefix: true, from_key: false };
    assert_eq!(span(&[0xff, 0xff]).bounds(), (vec![0xff, 0xff], vec![0]));
    assert_eq!(span(&[1, 0xff]).bounds(), (vec![1, 0xff], vec![2]));
}

#[test]
fn values_may_come_from_standard_input() {
    let value = |words: &[&str]| match parse(words).command {
        Command::Client(ClientCommand::Put(put)) => put.value,
        other => panic!("expected a put, got {other:?}"),
    };
    assert_eq!(value(&["put", "k"]), None);
    assert_eq!(value(&["put", "k", "-"]), Some(OsString::from("-")));
    assert_eq!(value(&["put", "k", ""]), Some(OsString::new()));
    assert_eq!(value(&["put", "k", "--", "-v"]), Some(OsString::from("-v")));
    match parse(&["put", "k", "v", "--lease", "0"]).command {
        Command::Client(ClientCommand::Put(put)) => assert_eq!(put.lease, 0),
        other => panic!("expected a put, got {other:?}"),
    }
    let error = try_parse(&["put", "k", "v", "--lease", "1f"]).expect_err("there are no leases").to_string();
    assert!(error.contains("leases are not built yet, so the key would never expire; leave lease 1f out"), "{error}");
    assert_eq!(kind(&["put", "k", "v", "--lease", "xyz"]), ErrorKind::ValueValidation);
}

#[test]
fn options_of_get_exclude_each_other_where_they_contradict() {
    assert_eq!(kind(&["get", "k", "--keys-only", "--count-only"]), ErrorKind::ArgumentConflict);
    assert_eq!(kind(&["get", "k", "--keys-only", "--print-value-only"]), ErrorKind::ArgumentConflict);
    assert_eq!(kind(&["get", "k", "--consistency", "x"]), ErrorKind::InvalidValue);
    match parse(&["get", "k", "--consistency=s", "--limit", "3", "--rev=7"]).command {
        Command::Client(ClientCommand::Get(get)) => {
            assert_eq!((get.consistency, get.limit, get.rev), (Consistency::Serializable, 3, 7));
        }
        other => panic!("expected a get, got {other:?}"),
    }
}

#[test]
fn forms_and_bytes_are_chosen_as_with_etcdctl() {
    for (word, form) in [("json", WriteOut::Json), ("fields", WriteOut::Fields), ("simple", WriteOut::Simple)] {
        assert_eq!(parse(&["get", "k", "-w", word, "--hex"]).global.write_out, form);
    }
    assert!(parse(&["--hex", "get", "k"]).global.hex && !parse(&["get", "k"]).global.hex);
    let refused = |words: &[&str]| try_parse(words).expect_err("refused").to_string();
    assert!(refused(&["get", "k", "-w", "protobuf"]).contains("not built yet"));
    let other = refused(&["get", "k", "-w", "xml"]);
    assert!(other.contains("[possible values: simple, table, json, fields]"), "{other}");
    for (flag, reason) in [
        ("--cacert", "not encrypted"),
        ("--cert", "not encrypted"),
        ("--key", "not encrypted"),
        ("--user", "no users"),
        ("--password", "no users"),
        ("--discovery-srv", "--endpoints"),
    ] {
        let said = refused(&[flag, "x", "get", "k"]);
        assert!(said.contains("not built yet") && said.contains(reason), "{said}");
    }
    let dial = |words: &[&str]| parse(words).global.dial_timeout();
    assert_eq!(dial(&["get", "k", "--dial-timeout", "300ms"]), Duration::from_millis(300));
    assert_eq!(dial(&["get", "k", "--command-timeout", "3s"]), Duration::from_millis(1500));
    assert_eq!(kind(&["get", "k", "--dial-timeout", "0s"]), ErrorKind::ValueValidation);
}

#[test]
fn commands_of_etcdctl_that_are_missing_say_so_whatever_follows_them() {
    for (words, what) in [
        (&["watch", "foo", "--prefix", "--", "sh", "-c", "x"][..], "quorate watch is not built yet: "),
        (&["lease", "grant", "60"], "quorate lease grant is not built yet: "),
        (&["lease", "keep-alive", "--once", "1f"], "quorate lease keep-alive is not built yet: "),
        (&["member", "list", "-w", "table"], "quorate member list is not built yet: "),
        (&["compact", "12"], "quorate compaction is not built yet: "),
        (&["move-leader", "c89feb932daef420"], "quorate move-leader is not built yet: "),
        (&["user"], "quorate user is not built yet: "),
    ] {
        match parse(words).command {
            Command::Missing(missing) => {
                let said = missing.refusal().to_string();
                assert!(said.starts_with(what) && said.lines().count() == 1, "{said}");
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
    assert_eq!(kind(&["wach", "foo"]), ErrorKind::InvalidSubcommand);
    let help = Cli::command().render_help().to_string();
    assert!(!help.contains("watch") && !help.contains("Not built yet"), "{help}");
}

/// The keys a settings file may have, taken from what the parser says when one is unknown.
fn file_keys() -> Vec<String> {
    let error = toml::from_str::<Config>("no-such-key = 1").expect_err("unknown").to_string();
    let (_, list) = error.split_once("expected one of ").expect("a list of keys");
    let mut keys: Vec<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    keys.sort();
    keys
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key_of_the_file() {
    let command = Cli::command();
    let start = command.find_subcommand("start").expect("start");
    let mut flags = Vec::new();
    for arg in start.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set()) {
        let Some(flag) = arg.get_long().filter(|&flag| !matches!(flag, "help" | "version")) else { continue };
        let variable = format!("QUORATE_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{flag}");
        if flag != "config" {
            flags.push(flag.to_owned());
        }
    }
    flags.sort();
    assert_eq!(flags, file_keys());
}

#[test]
fn each_command_lists_the_options_that_it_uses() {
    let mut command = definition::command();
    for (name, expected) in [
        ("get", [true; 3]),
        ("bench", [true; 3]),
        ("endpoint", [true; 3]),
        ("wal", [false, true, true]),
        ("sim", [false, true, false]),
        ("start", [false; 3]),
        ("completion", [false; 3]),
    ] {
        let subcommand = command.find_subcommand_mut(name).expect(name);
        let below = subcommand.get_subcommands().map(|below| below.clone().render_help().to_string());
        let helps: Vec<String> = below.chain([subcommand.clone().render_help().to_string()]).collect();
        for help in helps.iter().filter(|help| help.contains("--help")) {
            let listed = ["--command-timeout", "--write-out", "--hex"].map(|option| help.contains(option));
            assert_eq!(listed, expected, "{name}: {help}");
        }
    }
}

/// Words as a shell hands them over: flags of this command line, their values, and bytes of any kind.
fn word() -> impl Strategy<Value = OsString> {
    let known = prop::sample::select(vec![
        "get",
        "put",
        "del",
        "txn",
        "start",
        "status",
        "--",
        "-",
        "--prefix",
        "--from-key",
        "--limit",
        "--rev=1",
        "--lease",
        "--endpoints",
        "-w",
        "json",
        "--command-timeout=5s",
        "--initial-cluster",
        "--cores=",
        "--wal-io",
        "a",
        "",
    ]);
    prop_oneof![
        4 => known.prop_map(OsString::from),
        1 => ".{0,12}".prop_map(OsString::from),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(OsString::from_vec),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(u8::MAX), any::<u8>()], 1..4)
}

proptest! {
    #[test]
    fn no_words_make_the_command_line_panic(words in prop::collection::vec(word(), 0..7)) {
        if let Err(error) = Cli::try_parse_from(std::iter::once(OsString::from("quorate")).chain(words)) {
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn durations_are_positive_or_refused_by_name(text in "[0-9.]{0,5}(us|ms|s|m|h|[a-z]|\\PC){0,2}") {
        match parse_duration(&text) {
            Ok(duration) => assert!(!duration.is_zero(), "{text:?}"),
            Err(message) => assert!(message.contains(&format!("{text:?}")), "{message}"),
        }
    }

    #[test]
    fn whole_durations_are_exact(count in 1..1_000_000u32) {
        let units = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("", 1_000_000)];
        for (unit, unit_us) in units {
            let expected = Duration::from_micros(u64::from(count) * unit_us);
            assert_eq!(parse_duration(&format!("{count}{unit}")), Ok(expected), "{count}{unit}");
        }
    }

    #[test]
    fn lease_ids_are_read_as_they_are_printed(id in any::<u64>(), text in "[0-9a-fA-F]{0,17}|\\PC{0,4}") {
        assert_eq!(parse_lease(&format!("{id:016x}")), Ok(id));
        match parse_lease(&text) {
            Ok(id) => {
                let digits = text.trim_start_matches('0').to_ascii_lowercase();
                assert_eq!(format!("{id:x}"), if digits.is_empty() { "0" } else { &digits }, "{text:?}");
            }
            Err(message) => assert!(message.contains(&format!("{text:?}")), "{message}"),
        }
    }

    #[test]
    fn a_prefix_spans_the_keys_that_begin_with_it(prefix in key(), other in key()) {
        let as_text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let span = KeySpan { key: as_text(&prefix), range_end: None, prefix: true, from_key: false };
        for key in [other.clone(), [prefix.as_slice(), &other].concat()] {
            let (start, end) = span.bounds();
            assert_eq!(key >= start && (end == [0] || key < end), key.starts_with(&prefix), "{key:?} in {span:?}");
        }
        let span = KeySpan { prefix: false, from_key: true, ..span };
        assert_eq!(span.bounds(), (prefix, vec![0]));
    }
}
