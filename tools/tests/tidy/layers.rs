//! Who may use whom, and what the cores do without.

use crate::Finding;
use crate::rules::{DECODERS, UNSAFE_FILES, contains_token, is_listed};
use crate::scan::Source;
use crate::tree::Tree;

/// Packages by folder: name, and the packages of this workspace they may use, in any section of the manifest.
const PACKAGES: &[(&str, &str, &[&str])] = &[
    ("wal", "quorate-wal", &[]),
    ("wal/fuzz", "quorate-wal-fuzz", &["quorate-wal"]),
    ("net", "quorate-net", &["quorate-codec"]),
    ("net/codec", "quorate-codec", &[]),
    ("net/fuzz", "quorate-net-fuzz", &["quorate-net"]),
    ("engine", "quorate-engine", &["quorate-api", "quorate-codec", "quorate-wal", "quorate-net"]),
    ("engine/api", "quorate-api", &["quorate-codec"]),
    ("engine/mutations", "quorate-mutations", &["quorate-api", "quorate-codec", "quorate-wal", "quorate-net"]),
    ("engine/fuzz", "quorate-engine-fuzz", &["quorate-engine"]),
    ("engine/client", "quorate-client", &["quorate-api", "quorate-codec", "quorate-net"]),
    ("bench", "quorate-bench", &["quorate-api", "quorate-client", "quorate-engine", "quorate-net", "quorate-wal"]),
    (
        "tools",
        "quorate",
        &[
            "quorate-api",
            "quorate-bench",
            "quorate-client",
            "quorate-engine",
            "quorate-net",
            "quorate-powerfs",
            "quorate-wal",
        ],
    ),
    ("tools/powerfs", "quorate-powerfs", &["quorate-wal"]),
];

/// Sources that may only hold deterministic values, except for the shells below.
const CORES: &[&str] =
    &["wal/src/", "net/src/", "net/codec/src/", "engine/src/", "engine/api/src/", "tools/powerfs/src/"];

/// Files of those packages that meet the real world: real time, files, sockets, threads.
const SHELLS: &[&str] = &[
    "wal/src/cache.rs",
    "wal/src/device.rs",
    "wal/src/files.rs",
    "wal/src/mapped.rs",
    "wal/src/mmap.rs",
    "wal/src/place.rs",
    "wal/src/prepare.rs",
    "wal/src/repair.rs",
    "wal/src/verify.rs",
    "net/src/shell/",
    "net/src/client/",
    "net/src/patience.rs",
    "net/src/resolve.rs",
    "net/src/testing/corpus.rs",
    "engine/src/shell/",
    "tools/powerfs/src/host_files.rs",
    "tools/powerfs/src/mount.rs",
    "tools/powerfs/src/requests.rs",
    "tools/powerfs/src/supply.rs",
];

/// What a core does without, and what it uses instead.
const SHELL_ONLY: &[(&str, &str)] = &[
    ("async", "a core is a plain value: events in, actions out"),
    ("await", "a core is a plain value: events in, actions out"),
    ("glommio", "a core runs anywhere; executors belong to the shell"),
    ("tokio", "a core runs anywhere; runtimes belong to the shell"),
    ("std::fs", "a core asks its storage seam"),
    ("std::io", "a core returns bytes and actions"),
    ("std::thread", "a core has no threads"),
    ("std::process", "a core has no process around it"),
    ("std::env", "settings are passed in"),
    ("std::sync", "nothing in a core is shared"),
    ("std::time", "time is ticks that are passed in"),
    ("Instant", "time is ticks that are passed in"),
    ("SystemTime", "time is ticks that are passed in"),
    ("TcpStream", "a core sees bytes, not sockets"),
    ("TcpListener", "a core sees bytes, not sockets"),
    ("UdpSocket", "a core sees bytes, not sockets"),
    ("ToSocketAddrs", "names are resolved by the shell"),
    ("RandomState", "iteration order must not depend on the process; use BTreeMap or a fixed hasher"),
    ("HashMap", "iteration order must not depend on the process; use BTreeMap or a fixed hasher"),
    ("HashSet", "iteration order must not depend on the process; use BTreeSet or a fixed hasher"),
    ("println!", "a core says what it has to say in its results"),
    ("eprintln!", "a core says what it has to say in its results"),
];

/// The file belongs to a core.
pub fn is_core(path: &str) -> bool {
    is_listed(CORES, path) && !is_listed(SHELLS, path)
}

/// Cores stay deterministic.
pub fn check_source(source: &Source) -> Vec<Finding> {
    if !is_core(&source.path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.shipped() {
        for &(banned, remedy) in SHELL_ONLY {
            if contains_token(&line.code, banned) {
                let message =
                    format!("`{banned}` in a core file: {remedy}; shell files are listed in tidy (layers.rs)");
                findings.push(Finding::new(&source.path, number, message));
            }
        }
    }
    findings
}

/// Dependencies between packages go one way.
pub fn check_manifests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let folder = file.path.trim_end_matches("/Cargo.toml");
        match PACKAGES.iter().find(|(known, _, _)| *known == folder) {
            Some(&(_, name, allowed)) => {
                findings.extend(check_manifest(&file.path, &file.text, name, allowed));
                findings.extend(check_packaged(folder, &file.text, |path| tree.has(path)));
            }
            None => {
                findings.push(Finding::new(&file.path, 0, "this package has no place in the layers; see layers.rs"))
            }
        }
    }
    findings
}

fn check_manifest(path: &str, text: &str, name: &str, allowed: &[&str]) -> Vec<Finding> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 0, format!("this is no TOML: {error}"))],
    };
    let mut findings = Vec::new();
    let found = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    if found != Some(name) {
        findings.push(Finding::new(path, 0, format!("the package is named {found:?}, expected {name:?}")));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
        for dependency in dependencies.keys().filter(|dependency| dependency.starts_with("quorate")) {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(Finding::new(
                    path,
                    0,
                    format!("{name} must not use {dependency}, not even in {section}"),
                ));
            }
        }
    }
    if let Some(table) = manifest.get("target") {
        findings.push(Finding::new(path, 0, format!("sections for single targets escape this check: {table}")));
    }
    findings
}

/// A package that others may get says what it is, and has the licences inside.
fn check_packaged(folder: &str, text: &str, has: impl Fn(&str) -> bool) -> Vec<Finding> {
    let manifest: toml::Table = text.parse().unwrap_or_default();
    let Some(package) = manifest.get("package").and_then(toml::Value::as_table) else { return Vec::new() };
    if package.get("publish") == Some(&toml::Value::Boolean(false)) {
        return Vec::new();
    }
    let fields = ["description", "keywords", "categories", "readme", "license", "repository"];
    let missing = fields.iter().filter(|field| !package.contains_key(**field)).map(|field| format!("has no `{field}`"));
    let readme = package.get("readme").and_then(toml::Value::as_str).filter(|readme| !readme.starts_with("../"));
    let files = ["LICENSE-APACHE", "LICENSE-MIT"].into_iter().chain(readme);
    let gone =
        files.map(|file| format!("{folder}/{file}")).filter(|path| !has(path)).map(|path| format!("needs {path}"));
    missing
        .chain(gone)
        .map(|what| Finding::new(&format!("{folder}/Cargo.toml"), 0, format!("the package {what}")))
        .collect()
}

/// A list that names what is no longer there protects nothing.
pub fn check_lists(tree: &Tree) -> Vec<Finding> {
    let decoders: Vec<&str> = DECODERS.iter().map(|&(path, _)| path).collect();
    let lists =
        [("SHELLS (layers.rs)", SHELLS), ("DECODERS (rules.rs)", &decoders), ("UNSAFE_FILES (rules.rs)", UNSAFE_FILES)];
    let mut findings = Vec::new();
    for (name, list) in lists {
        for &path in list.iter().filter(|path| !tree.has(path)) {
            findings.push(Finding::new(
                path,
                0,
                format!("listed in tidy's {name}, but it is not there; update the list"),
            ));
        }
    }
    findings
}

#[test]
fn cores_have_no_clock_files_threads_or_sockets() {
    let found = |path: &str, text: &str| check_source(&Source::new(path, text)).len();
    let bad =
        ["async fn a() {}", "use std::fs;", "let now = Instant::now();", "use std::time::Duration;", "glommio::x()"];
    for text in bad {
        assert_eq!(found("wal/src/segment.rs", text), 1, "{text}");
        assert_eq!(found("wal/src/mmap.rs", text), 0, "{text}");
        assert_eq!(found("bench/src/load.rs", text), 0, "{text}");
        assert_eq!(found("wal/src/segment.rs", &format!("#[cfg(test)]\nmod tests {{\n    {text}\n}}")), 0, "{text}");
    }
    assert_eq!(found("engine/src/config/url.rs", "use std::net::{IpAddr, SocketAddr};"), 0);
}

#[test]
fn a_package_has_its_licences_and_says_what_it_is() {
    let packaged =
        "[package]\ndescription = \"a\"\nkeywords = []\ncategories = []\nreadme = \"README.md\"\nlicense = \"MIT\"\n";
    let found = check_packaged("wal", packaged, |path| path != "wal/LICENSE-MIT");
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["wal/Cargo.toml: the package has no `repository`", "wal/Cargo.toml: the package needs wal/LICENSE-MIT"]
    );
    assert!(check_packaged("x", "[package]\npublish = false\n", |_| false).is_empty());
}

#[test]
fn leaves_stay_leaves() {
    let manifest = "[package]\nname = \"quorate-wal\"\n[dev-dependencies]\nquorate-net.workspace = true\n";
    let found = check_manifest("wal/Cargo.toml", manifest, "quorate-wal", &[]);
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["wal/Cargo.toml: quorate-wal must not use quorate-net, not even in dev-dependencies"]
    );
    assert!(check_manifest("x", manifest, "quorate-wal", &["quorate-net"]).is_empty());
}
