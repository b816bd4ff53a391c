//! Documents: links lead somewhere, and nothing tells of one person's machine.

use crate::Finding;
use crate::tree::{TextFile, Tree};

/// Beginnings of paths that exist on one machine only.
const PRIVATE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (number, line) in (1..).zip(file.text.lines()) {
            for &private in PRIVATE_PATHS {
                if line.contains(private) {
                    let message = format!("{private}... is a path of one machine; write it in general terms");
                    findings.push(Finding::new(&file.path, number, message));
                }
            }
        }
        if file.path.ends_with(".md") {
            findings.extend(check_links(tree, file));
        }
    }
    findings
}

fn check_links(tree: &Tree, file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, target) in links(&file.text) {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
        if !tree.has(&path) {
            findings.push(Finding::new(&file.path, number, format!("the link leads to {path}, which is not there")));
            continue;
        }
        let linked = tree.files.iter().find(|known| known.path == path && path.ends_with(".md"));
        if let Some(linked) = linked.filter(|linked| !anchor.is_empty() && !has_heading(&linked.text, anchor)) {
            let message = format!("the link leads to #{anchor}, but {} has no such heading", linked.path);
            findings.push(Finding::new(&file.path, number, message));
        }
    }
    findings
}

/// Documents that one links to, as paths relative to the workspace.
pub fn linked_documents(file: &TextFile) -> Vec<String> {
    let targets = links(&file.text).into_iter().map(|(_, target)| target.split('#').next().unwrap_or_default());
    targets.filter(|target| target.ends_with(".md")).map(|target| resolve(&file.path, target)).collect()
}

/// Links inside the repository, with their lines; code blocks are passed over.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut is_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for (at, sign) in line.match_indices("](") {
            let rest = &line[at + sign.len()..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let is_outside = target.contains("://") || target.starts_with("mailto:");
            if !is_outside && !target.is_empty() {
                links.push((number, target));
            }
        }
    }
    links
}

/// Path of a link's target relative to the workspace.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A heading whose anchor this is, in the form that forges make of headings.
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>() == anchor
    })
}

#[test]
fn links_and_paths_are_checked() {
    let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
    let tree = Tree {
        files: vec![
            file(
                "README.md",
                "[a](docs/a.md#the-log) [b](docs/) [c](https://x.y) [d](docs/d.md)\n[e](docs/a.md#nothing)",
            ),
            file("docs/a.md", "# A\n## The log\n[up](../README.md)\n```\n[no](nowhere.md)\n```\n"),
        ],
        paths: ["README.md", "docs/", "docs/a.md"].map(str::to_owned).to_vec(),
    };
    let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "README.md:1: the link leads to docs/d.md, which is not there",
            "README.md:2: the link leads to #nothing, but docs/a.md has no such heading"
        ]
    );
    let private = Tree { files: vec![file("x.md", PRIVATE_PATHS[0])], paths: Vec::new() };
    assert_eq!(check(&private).len(), 1);
}
