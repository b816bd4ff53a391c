//! Counts for each package: public items, which every reader has to know, and assertions, which every reader may rely on.
//!
//! Both are ratchets that hold the numbers of today exactly, so that nothing is lost again unseen. More public items need a reason, given
//! where the number is raised. The share of functions' assertions is never lowered.

use std::collections::BTreeMap;

use crate::Finding;
use crate::scan::{Source, is_word, words};

/// A package's folder, the most public items that it may have, and the fewest assertions for every hundred functions.
pub type CountRatchet = (&'static str, usize, usize);

/// What is counted in a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    public_items: usize,
    functions: usize,
    asserts: usize,
}

impl Counts {
    fn asserts_per_hundred(self) -> usize {
        self.asserts * 100 / self.functions.max(1)
    }
}

pub fn check(sources: &[Source], ratchets: &[CountRatchet]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut packages: BTreeMap<&str, Counts> = BTreeMap::new();
    for source in sources {
        let Some((package, _)) = source.path.split_once("/src/") else { continue };
        let counts = packages.entry(package).or_default();
        for (_, line) in source.shipped() {
            count(&line.code, counts);
        }
    }
    for &(package, _, _) in ratchets.iter().filter(|(package, ..)| !packages.contains_key(package)) {
        findings.push(Finding::new(package, 0, "this package is gone; remove its ratchet"));
    }
    for (package, counts) in packages {
        let ratchet = ratchets.iter().find(|(of, ..)| *of == package);
        let messages = match ratchet {
            Some(&(_, public_max, asserts_min)) => compare(counts, public_max, asserts_min),
            None => vec![format!("this package has no ratchet in ratchets.rs: {counts:?}")],
        };
        findings.extend(messages.into_iter().map(|message| Finding::new(package, 0, message)));
    }
    findings
}

fn compare(counts: Counts, public_max: usize, asserts_min: usize) -> Vec<String> {
    let (public_items, asserts) = (counts.public_items, counts.asserts_per_hundred());
    let mut messages = Vec::new();
    if public_items > public_max {
        messages.push(format!("{public_items} public items, its ratchet is at {public_max}; is `pub(crate)` enough?"));
    }
    if public_items < public_max {
        messages.push(format!("only {public_items} public items now; lower its ratchet of {public_max}"));
    }
    if asserts < asserts_min {
        messages.push(format!(
            "{asserts} assertions for every hundred functions, its ratchet is at {asserts_min}; assert arguments, results \
             and what must hold between positions"
        ));
    }
    if asserts > asserts_min {
        messages
            .push(format!("{asserts} assertions for every hundred functions now; raise its ratchet of {asserts_min}"));
    }
    messages
}

/// Counts what a line of code has. Assertions that the compiler checks (`const _`) count, those that a release leaves out do not.
fn count(code: &str, counts: &mut Counts) {
    const ITEMS: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "union"];
    let mut line_words = words(code);
    let is_public = code.trim_start().starts_with("pub ");
    let is_item =
        line_words.by_ref().nth(1).is_some_and(|word| ITEMS.contains(&word) || matches!(word, "unsafe" | "async"));
    counts.public_items += usize::from(is_public && is_item);
    let is_function = words(code).any(|word| word == "fn") && code.contains("fn ") && !code.contains("fn(");
    counts.functions += usize::from(is_function);
    for name in ["assert!", "assert_eq!", "assert_ne!"] {
        let stands_alone = |at: usize| !code[..at].ends_with(is_word);
        counts.asserts += code.match_indices(name).filter(|&(at, _)| stands_alone(at)).count();
    }
}

#[test]
fn public_items_and_assertions_are_counted_and_their_ratchets_hold() {
    let text = "pub fn a() {\n    assert!(b);\n    debug_assert!(c);\n}\npub(crate) fn d() {}\npub struct E {\n    pub f: u8,\n}\n\
                const _: () = assert!(1 == 1);\npub use g::h;\n#[cfg(test)]\nmod tests {\n    pub fn i() { assert!(j); }\n}";
    let sources = [Source::new("x/src/lib.rs", text)];
    let found = |ratchets: &[CountRatchet]| -> Vec<String> {
        check(&sources, ratchets).iter().map(ToString::to_string).collect()
    };
    assert!(found(&[("x", 2, 100)]).is_empty());
    assert_eq!(found(&[("x", 1, 100)]), ["x: 2 public items, its ratchet is at 1; is `pub(crate)` enough?"]);
    assert_eq!(found(&[("x", 3, 100)]), ["x: only 2 public items now; lower its ratchet of 3"]);
    assert!(
        found(&[("x", 2, 101)])[0].starts_with("x: 100 assertions for every hundred functions, its ratchet is at 101")
    );
    assert_eq!(found(&[("x", 2, 99)]), ["x: 100 assertions for every hundred functions now; raise its ratchet of 99"]);
    assert_eq!(found(&[]).len(), 1);
    assert_eq!(found(&[("x", 2, 100), ("y", 0, 0)]), ["y: this package is gone; remove its ratchet"]);
}
