//! Reads the files of planted bugs and puts the bugs into a copy of a source. Used by the build script and by `tidy`; both compile it.
//!
//! A file of bugs is a sequence of such paragraphs. `(rare)` after the name marks a bug that takes thousands of seeds to find.
//!
//! ```text
//! bug SkipEntryChecksum
//! # Entries from the wire are not checked against their checksums.
//! in wire.rs
//! -        header.verify(payload).map_err(damaged)?;
//! +        if !planted() {
//! +            header.verify(payload).map_err(damaged)?;
//! +        }
//! ```

/// Stands for "this bug is switched on" in the lines that a bug adds.
const SWITCH: &str = "planted()";

/// Paths of the log's sources begin with this in the files of bugs; all others are the engine's.
pub const LOG_SOURCES: &str = "wal/src/";

/// A bug of the kind that a plausible change could bring in.
#[derive(Debug)]
pub struct Bug {
    /// Its name.
    pub name: String,
    /// What the product does with it.
    pub what: String,
    /// It takes thousands of seeds to find: several rare things must coincide.
    pub is_rare: bool,
    /// Where the product's sources change.
    pub places: Vec<Place>,
}

/// Consecutive lines of one source, and what becomes of them.
#[derive(Debug)]
pub struct Place {
    /// Path below `engine/src`, or one that begins with `LOG_SOURCES`.
    pub file: String,
    lines: Vec<(Change, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Keep,
    Remove,
    Add,
}

impl Place {
    /// Path of the source from the repository's root.
    pub fn path(&self) -> String {
        if self.file.starts_with(LOG_SOURCES) { self.file.clone() } else { format!("engine/src/{}", self.file) }
    }

    /// The product's lines.
    fn anchor(&self) -> Vec<&str> {
        self.lines.iter().filter(|(change, _)| *change != Change::Add).map(|(_, line)| line.as_str()).collect()
    }

    /// Number of the source's line, from 0, where the product's lines begin.
    ///
    /// # Errors
    /// They are not there, or in several places.
    fn find(&self, source: &[&str]) -> Result<usize, String> {
        let anchor = self.anchor();
        let starts: Vec<usize> =
            source.windows(anchor.len()).enumerate().filter(|(_, lines)| *lines == anchor).map(|(at, _)| at).collect();
        match starts[..] {
            [start] => Ok(start),
            _ => Err(format!(
                "{} has these lines {} times instead of once:\n{}",
                self.path(),
                starts.len(),
                anchor.join("\n")
            )),
        }
    }
}

/// The bugs of a file, in its order.
///
/// # Errors
/// A line that means nothing, or a bug that is not complete.
pub fn parse(path: &str, text: &str) -> Result<Vec<Bug>, String> {
    let mut bugs: Vec<Bug> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let error = |what: &str| format!("{path}:{}: {what}: `{line}`", number + 1);
        if let Some(rest) = line.strip_prefix("bug ") {
            let (name, is_rare) = rest.strip_suffix(" (rare)").map_or((rest, false), |name| (name, true));
            bugs.push(Bug { name: name.to_owned(), what: String::new(), is_rare, places: Vec::new() });
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let bug = bugs.last_mut().ok_or_else(|| error("expected `bug NAME`"))?;
        if let Some(what) = line.strip_prefix("# ") {
            bug.what = format!("{} {what}", bug.what).trim().to_owned();
        } else if let Some(file) = line.strip_prefix("in ") {
            bug.places.push(Place { file: file.to_owned(), lines: Vec::new() });
        } else {
            let place = bug.places.last_mut().ok_or_else(|| error("expected `# WHAT` or `in FILE`"))?;
            let change = match line.as_bytes()[0] {
                b' ' => Change::Keep,
                b'-' => Change::Remove,
                b'+' => Change::Add,
                _ => return Err(error("expected a line that begins with ` `, `-` or `+`")),
            };
            place.lines.push((change, line[1..].to_owned()));
        }
    }
    for bug in &bugs {
        let asks =
            |place: &Place| place.lines.iter().any(|(change, line)| *change == Change::Add && line.contains(SWITCH));
        let is_anchored = |place: &Place| !place.anchor().is_empty();
        if bug.what.is_empty() || !bug.places.iter().any(asks) || !bug.places.iter().all(is_anchored) {
            return Err(format!(
                "{path}: {} needs a line `# WHAT`, lines of the product in each place, and a `+` line that asks {SWITCH}",
                bug.name
            ));
        }
    }
    Ok(bugs)
}

/// A source with all of its bugs in it, each behind its switch: `crate::planted::is(NUMBER)`.
///
/// # Errors
/// A bug whose lines the source has not, or has several times; two bugs that change one line.
pub fn plant(file: &str, source: &str, bugs: &[Bug]) -> Result<String, String> {
    let lines: Vec<&str> = source.lines().collect();
    let mut removed = vec![false; lines.len()];
    // What comes before each line.
    let mut added = vec![String::new(); lines.len() + 1];
    for (number, bug) in bugs.iter().enumerate() {
        for place in bug.places.iter().filter(|place| place.file == file) {
            let mut at = place.find(&lines).map_err(|error| format!("planted bug {}: {error}", bug.name))?;
            for (change, line) in &place.lines {
                match change {
                    Change::Keep => at += 1,
                    Change::Add => {
                        added[at].push_str(&line.replace(SWITCH, &format!("crate::planted::is({number})")));
                        added[at].push('\n');
                    }
                    Change::Remove => {
                        if std::mem::replace(&mut removed[at], true) {
                            return Err(format!("planted bug {}: another one changes `{}`", bug.name, lines[at]));
                        }
                        at += 1;
                    }
                }
            }
        }
    }
    let mut planted = String::new();
    for (at, before) in added.iter().enumerate() {
        planted.push_str(before);
        if at < lines.len() && !removed[at] {
            planted.push_str(lines[at]);
            planted.push('\n');
        }
    }
    Ok(planted)
}
