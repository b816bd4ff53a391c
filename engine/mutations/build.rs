//! Copies the cores of engine and log into one package and puts all planted bugs into the copy.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

mod planting;

use planting::{Bug, LOG_SOURCES, parse, plant};

/// What the copy of the engine says of that of the log.
const LOG_MODULE: &str = "\n#[doc = \"The log.\"]\npub mod wal;\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=planting.rs");
    println!("cargo::rerun-if-changed=bugs");
    println!("cargo::rerun-if-changed=../src");
    println!("cargo::rerun-if-changed=../../wal/src");
    // The copy is the engine without its shell, and with what the simulator needs.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"shell\", \"testing\"))");
    println!("cargo::rustc-cfg=feature=\"testing\"");
    if let Err(error) = build() {
        println!("cargo::error={}", error.replace('\n', "\\n"));
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let mut bugs = Vec::new();
    for path in sorted(Path::new("bugs"))? {
        bugs.extend(parse(&path.display().to_string(), &read(&path)?)?);
    }
    for place in bugs.iter().flat_map(|bug| &bug.places) {
        read(&Path::new("../..").join(place.path()))?;
    }
    // A source that was moved must not stay behind at its old place.
    fs::remove_dir_all(&out).map_err(|error| format!("cannot empty {}: {error}", out.display()))?;
    let engine = Path::new("../src");
    copy(engine, engine, &out, &bugs, &|below| below.to_owned())?;
    let log = Path::new("../../wal/src");
    copy(log, log, &out.join("wal"), &bugs, &|below| format!("{LOG_SOURCES}{below}"))?;
    write(&out.join("list.rs"), &list(&bugs))
}

/// Copies a directory of sources, bugs included. `name` makes the name of a file, as bugs have it, of its path below `root`.
fn copy(root: &Path, from: &Path, out: &Path, bugs: &[Bug], name: &dyn Fn(&str) -> String) -> Result<(), String> {
    for path in sorted(from)? {
        let below = path.strip_prefix(root).map_err(|error| error.to_string())?;
        if path.is_dir() {
            if below != Path::new("shell") {
                copy(root, &path, out, bugs, name)?;
            }
            continue;
        }
        let name = name(&below.display().to_string());
        let planted = plant(&name, &read(&path)?, bugs)?;
        match name.as_str() {
            "lib.rs" => {
                let text = without_inner_docs(&with_log_inside(&planted)) + LOG_MODULE;
                write(&out.join(below), &text)?;
            }
            // The log is a module here.
            "wal/src/lib.rs" => write(&out.join("mod.rs"), &as_log_module(&planted))?,
            _ if name.starts_with(LOG_SOURCES) => {
                write(&out.join(below), &as_log_module(&planted))?;
            }
            _ => write(&out.join(below), &with_log_inside(&planted))?,
        }
    }
    Ok(())
}

/// The log's paths to itself, which is a module here; the switches are not.
fn as_log_module(text: &str) -> String {
    text.replace("crate::", "crate::wal::").replace("crate::wal::planted::", "crate::planted::")
}

/// The engine's paths to the log, which is a module beside it here.
fn with_log_inside(text: &str) -> String {
    let mut parts = text.split("wal::");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_whole = !all.ends_with(|before: char| before == ':' || before == '_' || before.is_alphanumeric());
        all.push_str(if is_whole { "crate::wal::" } else { "wal::" });
        all.push_str(part);
    }
    all
}

/// A file that is included may not document what includes it.
fn without_inner_docs(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("//!")).fold(String::new(), |all, line| all + line + "\n")
}

/// All bugs as a Rust array, in the order of their numbers.
fn list(bugs: &[Bug]) -> String {
    let mut text = "&[\n".to_owned();
    for Bug { name, what, is_rare, .. } in bugs {
        writeln!(text, "Bug {{ name: {name:?}, what: {what:?}, is_rare: {is_rare} }},").expect("a string takes all");
    }
    text + "]\n"
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot list {}: {error}", directory.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(directory).map_err(failed)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error| format!("cannot write {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}
