//! A Rust source, with comments and literals told apart from code, line by line.

/// A scanned file.
pub struct Source {
    /// Relative to the workspace.
    pub path: String,
    pub lines: Vec<Line>,
}

/// One line of a file.
#[derive(Default)]
pub struct Line {
    /// Code, with the insides of strings, characters and comments left out.
    pub code: String,
    /// Text of comments.
    pub comment: String,
    /// The line belongs to a `#[cfg(test)]` module or the file is all test.
    pub is_test: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Nesting depth, from 1.
    BlockComment(usize),
    String,
    /// Number of `#` that close it.
    RawString(usize),
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut lines = split_lines(text);
        mark_test_modules(&mut lines);
        let source = Self { path: path.to_owned(), lines };
        if is_test_path(path) { source.all_test() } else { source }
    }

    /// The same file, all of it test.
    pub fn all_test(mut self) -> Self {
        for line in &mut self.lines {
            line.is_test = true;
        }
        self
    }

    /// Lines with their numbers from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        (1..).zip(&self.lines)
    }

    /// Lines that are not test code, with their numbers from 1.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.is_test)
    }
}

/// The file is compiled for tests alone, as its name or folder says.
pub fn is_test_path(path: &str) -> bool {
    path.ends_with("tests.rs") || ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder))
}

fn split_lines(text: &str) -> Vec<Line> {
    let mut scanner = Scanner { state: State::Code, lines: vec![Line::default()] };
    let mut rest = text;
    while !rest.is_empty() {
        rest = scanner.step(rest);
    }
    scanner.lines
}

struct Scanner {
    state: State,
    /// Never empty; the last one is being filled.
    lines: Vec<Line>,
}

impl Scanner {
    /// Consumes the start of `rest`, at least one character, and returns what is left.
    fn step<'a>(&mut self, rest: &'a str) -> &'a str {
        if let Some(after) = rest.strip_prefix('\n') {
            if self.state == State::LineComment {
                self.state = State::Code;
            }
            self.lines.push(Line::default());
            return after;
        }
        match self.state {
            State::Code => self.step_code(rest),
            State::LineComment => self.comment(rest, 1),
            State::BlockComment(depth) => {
                if let Some(after) = rest.strip_prefix("*/") {
                    self.state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
                    return after;
                }
                if let Some(after) = rest.strip_prefix("/*") {
                    self.state = State::BlockComment(depth + 1);
                    return after;
                }
                self.comment(rest, 1)
            }
            State::String => {
                if rest.starts_with('"') {
                    self.state = State::Code;
                    return self.code(rest, 1);
                }
                let is_escape = rest.starts_with('\\') && !rest.starts_with("\\\n");
                skip(rest, if is_escape { 2 } else { 1 })
            }
            State::RawString(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                if rest.starts_with(&end) {
                    self.state = State::Code;
                    return self.code(rest, end.len());
                }
                skip(rest, 1)
            }
        }
    }

    fn step_code<'a>(&mut self, rest: &'a str) -> &'a str {
        if rest.starts_with("//") {
            self.state = State::LineComment;
            return self.comment(rest, 2);
        }
        if let Some(after) = rest.strip_prefix("/*") {
            self.state = State::BlockComment(1);
            return after;
        }
        if rest.starts_with('"') {
            self.state = State::String;
            return self.code(rest, 1);
        }
        if let Some(length) = character_length(rest) {
            self.last().code.push_str("''");
            return skip(rest, length);
        }
        let follows_word = self.last().code.ends_with(is_word);
        if let Some((prefix, hashes)) = raw_string_start(rest).filter(|_| !follows_word) {
            self.state = State::RawString(hashes);
            return self.code(rest, prefix);
        }
        self.code(rest, 1)
    }

    fn last(&mut self) -> &mut Line {
        self.lines.last_mut().expect("there is always a line")
    }

    fn code<'a>(&mut self, rest: &'a str, length: usize) -> &'a str {
        let after = skip(rest, length);
        self.last().code.push_str(&rest[..rest.len() - after.len()]);
        after
    }

    fn comment<'a>(&mut self, rest: &'a str, length: usize) -> &'a str {
        let after = skip(rest, length);
        self.last().comment.push_str(&rest[..rest.len() - after.len()]);
        after
    }
}

/// What is left after so many characters.
fn skip(rest: &str, length: usize) -> &str {
    rest.char_indices().nth(length).map_or("", |(at, _)| &rest[at..])
}

/// Number of characters of a character literal at the start; None for a lifetime and everything else.
fn character_length(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        let escaped = skip(inside, 2);
        let end = escaped.find('\'').filter(|&end| end <= 12)?;
        return Some(4 + escaped[..end].chars().count());
    }
    (inside.chars().nth(1)? == '\'').then_some(3)
}

/// Number of characters up to and with the quote, and of `#`, of a raw string at the start.
fn raw_string_start(rest: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let after = &rest[prefix.len()..];
    let hashes = after.chars().take_while(|&c| c == '#').count();
    after[hashes..].starts_with('"').then_some((prefix.len() + hashes + 1, hashes))
}

/// A character of identifiers.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Identifiers and keywords of a line of code.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Marks modules behind `#[cfg(test)]`, from the attribute to the closing brace.
fn mark_test_modules(lines: &mut [Line]) {
    let mut at = 0;
    while at < lines.len() {
        let is_start = lines[at].code.trim_start().starts_with("#[cfg(test)]");
        let end = if is_start { block_end(lines, at).unwrap_or(at) } else { at };
        if is_start {
            for line in &mut lines[at..=end] {
                line.is_test = true;
            }
        }
        at = end + 1;
    }
}

/// Position of the line with the brace that closes the first one opened at or after `from`. None if a `;` comes first.
pub fn block_end(lines: &[Line], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut brackets = 0usize;
    for (at, line) in lines.iter().enumerate().skip(from) {
        for c in line.code.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(at);
                    }
                }
                ';' if depth == 0 && brackets == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

#[test]
fn code_comments_and_literals_are_told_apart() {
    let text =
        "let a = \"x // y\"; // z\nlet b = r#\"\"/*\"#; /* c /* d */\ne */ f('\"', '\\'', 'a: &'a str)\n\"g\nh\" i";
    let source = Source::new("x.rs", text);
    let code: Vec<&str> = source.lines.iter().map(|line| line.code.trim()).collect();
    assert_eq!(code, ["let a = \"\";", "let b = r#\"\"#;", "f('', '', 'a: &'a str)", "\"", "\" i"]);
    assert_eq!(source.lines[0].comment, "// z");
    assert_eq!(source.lines[1].comment, " c  d ");
}

#[test]
fn test_modules_are_marked() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\nfn d() {}";
    let tests: Vec<bool> = Source::new("x.rs", text).lines.iter().map(|line| line.is_test).collect();
    assert_eq!(tests, [false, true, true, true, true, true, false, true, false, false]);
    assert!(Source::new("wal/tests/x.rs", "fn a() {}").lines[0].is_test);
}
