//! Every planted bug still finds its place in the sources of engine and log. That the simulator finds the bugs is tested elsewhere.

use crate::Finding;
use crate::tree::Tree;

#[path = "../../../engine/mutations/planting.rs"]
mod planting;

const BUGS: &str = "engine/mutations/bugs/";
const SOURCES: &str = "engine/src/";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut bugs = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.starts_with(BUGS)) {
        match planting::parse(&file.path, &file.text) {
            Ok(parsed) => bugs.extend(parsed),
            Err(error) => return vec![Finding::new(&file.path, 0, error)],
        }
    }
    let mut findings = Vec::new();
    for place in bugs.iter().flat_map(|bug| &bug.places) {
        if !tree.has(&place.path()) {
            findings.push(Finding::new(BUGS, 0, format!("a bug is planted in {}, which is not there", place.file)));
        }
    }
    for file in &tree.files {
        let is_logs = file.path.starts_with(planting::LOG_SOURCES);
        let name = if is_logs { Some(file.path.as_str()) } else { file.path.strip_prefix(SOURCES) };
        if let Some(name) = name
            && let Err(error) = planting::plant(name, &file.text, &bugs)
        {
            findings.push(Finding::new(&file.path, 0, format!("{error}\nAdapt the bug to the new code in {BUGS}.")));
        }
    }
    findings
}

#[test]
fn a_bug_is_planted_behind_its_switch_or_refused() {
    let bugs = |text: &str| planting::parse("b", text);
    let source = "one\n    two();\nthree\n";
    let parsed = bugs("bug A (rare)\n# Says\n# what.\nin f.rs\n one\n-    two();\n+    if !planted() {}\n")
        .expect("it is complete");
    assert_eq!((parsed[0].name.as_str(), parsed[0].what.as_str(), parsed[0].is_rare), ("A", "Says what.", true));
    let planted = planting::plant("f.rs", source, &parsed).expect("its lines are there");
    assert_eq!(planted, "one\n    if !crate::planted::is(0) {}\nthree\n");
    assert_eq!(planting::plant("g.rs", source, &parsed).expect("nothing is planted here"), source);

    let error = planting::plant("f.rs", "one\n    two(2);\n", &parsed).expect_err("its lines have changed");
    assert!(error.starts_with("planted bug A: engine/src/f.rs has these lines 0 times"), "{error}");
    let error = planting::plant("f.rs", &source.repeat(2), &parsed).expect_err("it has two places");
    assert!(error.contains("2 times"), "{error}");
    let twice =
        bugs("bug A\n# a\nin f.rs\n-one\n+planted()\nbug B\n# b\nin f.rs\n-one\n+planted()\n").expect("complete");
    let error = planting::plant("f.rs", source, &twice).expect_err("one line is changed twice");
    assert!(error.starts_with("planted bug B: another one changes"), "{error}");

    for text in
        ["# a\n", "bug A\nin f.rs\n+planted()\n", "bug A\n# a\nin f.rs\n-one\n+two\n", "bug A\n# a\nin f.rs\none\n"]
    {
        bugs(text).expect_err(text);
    }
}
