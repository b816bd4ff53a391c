//! Replays written conversations with the binary and compares what happens with what was written down.
//!
//! `testdata/cli_*.txt` hold blocks: commands for a shell, a line `----`, and what they printed, up to an empty line. A line that
//! begins with `|` was printed to standard output, one with `!` to standard error; `= N` is the exit code if it is not 0. Each file
//! has a cluster of one node of its own. Addresses, ids, terms and times are replaced by words. Run with `QUORATE_REWRITE=1` to write
//! down what happens now; then read the difference before committing it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::Cluster;

#[tokio::test]
async fn keys() {
    check("keys").await;
}

#[tokio::test]
async fn forms() {
    check("forms").await;
}

#[tokio::test]
async fn transactions() {
    check("txn").await;
}

#[tokio::test]
async fn endpoints() {
    check("endpoint").await;
}

#[tokio::test]
async fn commands_that_are_missing() {
    check("missing").await;
}

#[tokio::test]
async fn checks_and_completions() {
    check("check").await;
}

#[tokio::test]
async fn words_of_refusals() {
    check("words").await;
}

/// Replays one file.
async fn check(name: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "testdata", &format!("cli_{name}.txt")].iter().collect();
    let expected = std::fs::read_to_string(&path).expect("the transcript exists");
    let cluster = Cluster::start(1).await;
    let actual = Stage::of(&cluster).await.replay(&expected);
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        std::fs::write(&path, &actual).expect("the transcript can be written");
        return;
    }
    if expected != actual {
        let differs = expected.lines().zip(actual.lines()).position(|(expected, actual)| expected != actual);
        let line = differs.unwrap_or_else(|| expected.lines().count().min(actual.lines().count())) + 1;
        panic!("{} differs from line {line} on; what happens now:\n{actual}", path.display());
    }
}

/// Where commands run, and what of their output differs each time.
struct Stage {
    dir: PathBuf,
    address: String,
    /// What is replaced, and the word in its place.
    words: Vec<(String, &'static str)>,
}

impl Stage {
    async fn of(cluster: &Cluster) -> Self {
        let address = cluster.nodes[0].client_address().to_owned();
        let node = cluster.statuses().await.first().expect("the node answers").node_id;
        let options = net::client::Options { endpoints: vec![address.clone()], ..net::client::Options::default() };
        let client = net::client::Client::connect(options).await.expect("the node answers");
        let cluster_id = client.info().cluster_id;
        let words = vec![
            (address.clone(), "127.0.0.1:2379"),
            (format!("{node:016x}"), "NODE"),
            (format!("{node:x}"), "NODE"),
            (node.to_string(), "NODE"),
            (format!("{cluster_id:x}"), "CLUSTER"),
            (cluster_id.to_string(), "CLUSTER"),
        ];
        Self { dir: cluster.dir().to_owned(), address, words }
    }

    /// The transcript with what happens now in place of what was written down.
    fn replay(&self, transcript: &str) -> String {
        let mut out = String::new();
        for block in transcript.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
            if !out.is_empty() {
                out.push('\n');
            }
            let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
            commands.iter().for_each(|line| writeln!(out, "{line}").expect("a string takes it"));
            let script: Vec<&str> = commands.into_iter().filter(|line| !line.starts_with('#')).collect();
            if !script.is_empty() {
                let printed = self.run(&script.join("\n"));
                write!(out, "----\n{}", if printed.is_empty() { "nothing\n" } else { &printed })
                    .expect("a string takes it");
            }
        }
        out
    }

    /// What a shell's commands print.
    fn run(&self, script: &str) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("a directory");
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&self.dir).stdin(Stdio::null());
        let output = command.env("PATH", path).env("QUORATE_ENDPOINTS", &self.address).output().expect("a shell");
        let mut printed = String::new();
        for (sign, bytes) in [('|', &output.stdout), ('!', &output.stderr)] {
            for line in String::from_utf8_lossy(bytes).lines() {
                let line = format!("{sign} {}", self.readable(line));
                writeln!(printed, "{}", line.trim_end()).expect("a string takes it");
            }
        }
        match output.status.code() {
            Some(0) => {}
            code => writeln!(printed, "= {}", code.expect("an exit code")).expect("a string takes it"),
        }
        printed
    }

    fn readable(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (what, word) in &self.words {
            line = line.replace(what, word);
        }
        for (before, word) in [
            ("\"raft_term\":", "TERM"),
            ("\"RaftTerm\" : ", "TERM"),
            ("\"raftTerm\":", "TERM"),
            ("\"raftIndex\":", "INDEX"),
            ("\"RaftIndex\" : ", "INDEX"),
            ("\"raftAppliedIndex\":", "INDEX"),
            ("\"RaftAppliedIndex\" : ", "INDEX"),
            ("took = ", "TIME"),
            ("\"took\":\"", "TIME"),
            ("\"Took\" : ", "TIME"),
        ] {
            line = replaced_behind(&line, before, word);
        }
        line
    }
}

/// The line with a word in place of the number, or the time, that stands behind `before`.
fn replaced_behind(line: &str, before: &str, word: &str) -> String {
    match line.split_once(before) {
        Some((head, tail)) => {
            let rest = tail.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | 'µ'));
            format!("{head}{before}{word}{}", replaced_behind(rest, before, word))
        }
        None => line.to_owned(),
    }
}
