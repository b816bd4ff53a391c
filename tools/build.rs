//! Notes the commit that the binary is built from, if it is built in a repository: `quorate version` and `quorate sim` say it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=../.git/HEAD");
    println!("cargo:rerun-if-changed=../.git/refs/heads");
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    if let Ok(output) = asked
        && output.status.success()
    {
        println!("cargo:rustc-env=QUORATE_COMMIT={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
