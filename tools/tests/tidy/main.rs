//! The house style as a test: layering, circles of imports, sizes, public items, assertions, banned words and constructs, lines
//! that are too long, files that nothing leads to, links, planted bugs, coverage marks.
//!
//! A finding names file, line and remedy. Exceptions stand in `ratchets.rs` and only become fewer. This is a scanner of
//! lines and tokens, not a compiler: what rustc, clippy and rustfmt check is left to them.

mod circles;
mod columns;
mod counts;
mod documents;
mod driving;
mod layers;
mod limits;
mod marks;
mod modules;
mod named;
mod planted;
mod ratchets;
mod rules;
mod scan;
mod sizes;
mod tree;
mod unused;

use std::fmt;
use std::path::PathBuf;

use scan::Source;
use tree::{TextFile, Tree};

/// Something to repair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1; 0 = the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

#[test]
fn the_workspace_is_tidy() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = Tree::read(&root);
    let shipped = modules::reached(&tree, false);
    let read = |file: &TextFile| {
        let source = Source::new(&file.path, &file.text);
        if shipped.contains(&file.path) { source } else { source.all_test() }
    };
    let sources: Vec<Source> = modules::sources(&tree).map(read).collect();
    assert!(sources.len() > 20, "only {} sources found under {}", sources.len(), root.display());
    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(rules::check(source));
        findings.extend(layers::check_source(source));
        findings.extend(columns::check_source(source));
        findings.extend(driving::check_source(source));
    }
    findings.extend(sizes::check(&sources, ratchets::FILES, ratchets::FUNCTIONS));
    findings.extend(circles::check(&sources, ratchets::CIRCLES));
    findings.extend(counts::check(&sources, ratchets::COUNTS));
    findings.extend(limits::check(&sources));
    findings.extend(layers::check_lists(&tree));
    findings.extend(layers::check_manifests(&tree));
    findings.extend(documents::check(&tree));
    findings.extend(named::check(&tree, &sources));
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    findings.extend(documents.flat_map(columns::check_document));
    findings.extend(unused::check(&tree));
    findings.extend(planted::check(&tree));
    findings.extend(marks::check(&tree.files));
    findings.sort();
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "{} findings:\n{}", report.len(), report.join("\n"));
}
