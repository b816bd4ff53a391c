//! Copies the engine's core and puts all planted bugs into the copy.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

mod planting;

use planting::{Bug, parse, plant};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=planting.rs");
    println!("cargo::rerun-if-changed=bugs");
    println!("cargo::rerun-if-changed=../src");
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
    let source = Path::new("../src");
    for place in bugs.iter().flat_map(|bug| &bug.places) {
        read(&source.join(&place.file))?;
    }
    // A source that was moved must not stay behind at its old place.
    fs::remove_dir_all(&out).map_err(|error| format!("cannot empty {}: {error}", out.display()))?;
    copy(source, source, &out, &bugs)?;
    write(&out.join("list.rs"), &list(&bugs))
}

/// Copies a directory of sources, bugs included.
fn copy(root: &Path, from: &Path, out: &Path, bugs: &[Bug]) -> Result<(), String> {
    for path in sorted(from)? {
        let below = path.strip_prefix(root).map_err(|error| error.to_string())?;
        if path.is_dir() {
            if below != Path::new("shell") {
                copy(root, &path, out, bugs)?;
            }
            continue;
        }
        let planted = plant(&below.display().to_string(), &read(&path)?, bugs)?;
        let text = if below == Path::new("lib.rs") { without_inner_docs(&planted) } else { planted };
        write(&out.join(below), &text)?;
    }
    Ok(())
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
