//! The page for those who come from etcd says what is: each command and option in its tables is there, or is refused as not built yet.

use crate::harness::quorate;

/// The commands of etcdctl 3.6; those of `user` and `role` are all alike.
const COMMANDS: &str = "alarm disarm, alarm list, auth disable, auth enable, auth status, check datascale, check perf, compaction, \
                        completion, defrag, del, downgrade cancel, downgrade enable, downgrade validate, elect, \
                        endpoint hashkv, endpoint health, endpoint status, get, lease grant, lease keep-alive, lease list, \
                        lease revoke, lease timetolive, lock, make-mirror, member add, member list, member promote, \
                        member remove, member update, move-leader, options, put, role add, snapshot save, txn, user add, \
                        version, watch";

/// What a command that needs more is completed with.
const NEEDED: &[(&str, &[&str])] =
    &[("", &["get", "k"]), ("put", &["k", "v"]), ("get", &["k"]), ("endpoint", &["health"])];

/// A row of the page.
struct Row<'a> {
    /// The command, without its arguments; empty for an option of every command.
    path: Vec<&'a str>,
    /// An option with its argument.
    option: Vec<&'a str>,
    verdict: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let cells = |line| {
        let line: &str = line;
        let mut cells = line.strip_prefix("| `")?.split('|');
        Some((cells.next()?.trim().strip_suffix('`')?, cells.next()?.trim()))
    };
    let rows = page.lines().filter_map(cells);
    let rows = rows.filter(|(_, verdict)| matches!(*verdict, "same" | "differs" | "not built yet"));
    rows.map(|(command, verdict)| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (path, rest) = words.split_at(words.iter().position(|word| !is_name(word)).unwrap_or(words.len()));
        let option = if rest.first().is_some_and(|word| word.starts_with("--")) { rest } else { &[] };
        Row { path: path.to_vec(), option: option.to_vec(), verdict }
    })
    .collect()
}

/// An argument in capitals stands for any.
fn argument(word: &str) -> &str {
    if word.starts_with(|c: char| c.is_ascii_uppercase()) { "1f" } else { word }
}

fn is_name(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
}

#[test]
fn every_command_of_etcdctl_is_on_the_page_and_is_there_or_refused_as_it_says() {
    let rows = rows(include_str!("../../../docs/from-etcd.md"));
    for command in COMMANDS.split(", ") {
        assert!(rows.iter().any(|row| row.path.join(" ") == command && row.option.is_empty()), "{command} is missing");
    }
    let mut wrong = Vec::new();
    for Row { path, option, verdict } in rows {
        let what = format!("{} {}: {verdict}", path.join(" "), option.join(" "));
        let needed = NEEDED.iter().find(|(command, _)| *command == path.join(" ")).map_or(&[][..], |(_, words)| words);
        let option: Vec<&str> = option.into_iter().map(argument).collect();
        let output = if verdict == "not built yet" {
            quorate(&[&path[..], needed, &option].concat())
        } else {
            quorate(&[if path.is_empty() { &["get"][..] } else { &path }, &["--help"]].concat())
        };
        let said = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        let is_as_said = if verdict == "not built yet" {
            output.status.code() == Some(2) && said.contains("not built yet")
        } else {
            let is_there = option.first().is_none_or(|name| said.contains(name));
            output.status.success() && is_there && !said.starts_with("Not built yet")
        };
        if !is_as_said {
            wrong.push(format!("{what}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
