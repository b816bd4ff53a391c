//! What is handed to other programs: a unit that systemd takes, and an image that is built as the workspace wants it.

use std::process::Command;

use crate::harness::{leave_out, quorate};

const UNIT: &str = include_str!("../../packaging/quorate.service");
const CONTAINER: &str = include_str!("../../packaging/Containerfile");

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join("quorate.service");
    // The binary is where a package puts it; here is the one of the test.
    let here = UNIT.replace("/usr/bin/quorate", env!("CARGO_BIN_EXE_quorate"));
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
