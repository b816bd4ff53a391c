//! What is handed to other programs: dashboards and rules about figures that there are, a unit that systemd takes.

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::{Cluster, leave_out, quorate};
use crate::probes::get;

const BOARD: &str = include_str!("../../packaging/grafana.json");
const ALERTS: &str = include_str!("../../packaging/alerts.yml");
const UNIT: &str = include_str!("../../packaging/quorate.service");
const CONTAINER: &str = include_str!("../../packaging/Containerfile");

/// The names of figures in a text.
fn figures_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("quorate_") || word.starts_with("process_")).collect()
}

#[tokio::test]
async fn the_board_and_the_rules_are_about_figures_that_a_node_has() {
    let cluster = Cluster::start(1).await;
    let served = get(&cluster, 0, "/metrics");
    let samples: BTreeSet<&str> = served.lines().filter_map(|line| line.split([' ', '{']).next()).collect();
    for (what, text, count_min) in [("grafana.json", BOARD, 30), ("alerts.yml", ALERTS, 14)] {
        let named = figures_in(text);
        let unknown: Vec<&&str> = named.iter().filter(|name| !samples.contains(**name)).collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?} are no figures of a node");
        assert!(named.len() >= count_min, "{what}: {named:?}");
    }
}

#[test]
fn the_board_is_whole() {
    let board: serde_json::Value = serde_json::from_str(BOARD).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    for panel in panels {
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().zip(place["w"].as_u64()).map(|(x, width)| x + width);
        assert!(right.is_some_and(|right| right <= 24) && panel["title"].is_string(), "{panel}");
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().expect("targets");
            let is_asked = |target: &serde_json::Value| target["expr"].as_str().is_some_and(|expr| !expr.is_empty());
            assert!(!targets.is_empty() && targets.iter().all(is_asked), "{panel}");
        }
    }
    let variables: Vec<&str> =
        board["templating"]["list"].as_array().expect("variables").iter().filter_map(|v| v["name"].as_str()).collect();
    assert_eq!(variables, ["datasource", "job", "shard"]);
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join("quorate.service");
    // The binary and its page are where a package puts them; here only the binary of the test is.
    let here =
        UNIT.replace("/usr/bin/quorate", env!("CARGO_BIN_EXE_quorate")).replace("Documentation=man:quorate(1)\n", "");
    std::fs::write(&unit, here).expect("written");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else {
        return leave_out("there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("quorate.service"), "{said}");
}

#[test]
fn the_flags_in_the_unit_and_the_image_are_those_of_the_binary() {
    let help = quorate(&["start", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for text in [UNIT, CONTAINER] {
        let lines = text.lines().filter(|line| line.starts_with("ExecStart=") || line.starts_with("CMD "));
        let flags: Vec<&str> =
            lines.flat_map(|line| line.split([' ', '"', ','])).filter(|word| word.starts_with("--")).collect();
        assert!(!flags.is_empty(), "{text}");
        for flag in flags {
            assert!(help.contains(flag), "{flag}: {help}");
        }
    }
    let toolchain = format!("rust:{}", env!("CARGO_PKG_RUST_VERSION"));
    assert!(CONTAINER.contains(&toolchain), "the image is built with {toolchain}");
}
