//! Reads the paths out of Rust source. It knows just enough of the language for that: comments, literals, `use`
//! trees and inline modules; it trusts the compiler that the rest is well formed.

/// A path as written, made absolute where it begins with `crate`, `self` or `super`.
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// It stands in a `use` declaration.
    pub(crate) in_use: bool,
    /// It stands in a module of tests: `tests`, or one whose name ends so.
    pub(crate) in_tests: bool,
}

/// All paths of at least two segments, all imports, and the names of all functions that are called.
///
/// `module` is the file's place in the crate.
pub(crate) fn paths(module: &[String], text: &str) -> Vec<Path> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        depth: 0,
        module: module.to_vec(),
        inline: vec![],
        found: vec![],
    };
    reader.read();
    reader.found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Separator,
    Mark(char),
}

struct Reader<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    /// Open braces.
    depth: usize,
    module: Vec<String>,
    /// The depths at which inline modules were opened.
    inline: Vec<usize>,
    found: Vec<Path>,
}

impl<'a> Reader<'a> {
    fn token(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|(_, token)| *token)
    }

    fn read(&mut self) {
        while let Some(token) = self.token(0) {
            match (token, self.token(1)) {
                (Token::Word("use"), next) if next != Some(Token::Mark('<')) => {
                    self.at += 1;
                    self.tree(Vec::new());
                }
                (Token::Word("mod"), Some(Token::Word(name))) if self.token(2) == Some(Token::Mark('{')) => {
                    self.module.push(name.to_owned());
                    self.inline.push(self.depth);
                    self.at += 2;
                }
                (Token::Word(word), Some(Token::Separator)) => self.path(word),
                (Token::Word(word), Some(Token::Mark('('))) => {
                    self.add(self.at, vec![word.to_owned()], false);
                    self.at += 1;
                }
                _ => {
                    self.brace(token);
                    self.at += 1;
                }
            }
        }
    }

    fn brace(&mut self, token: Token<'_>) {
        if token == Token::Mark('{') {
            self.depth += 1;
        } else if token == Token::Mark('}') {
            self.depth = self.depth.saturating_sub(1);
            if self.inline.last() == Some(&self.depth) {
                self.inline.pop();
                self.module.pop();
            }
        }
    }

    /// `a::b::c`, as far as it goes.
    fn path(&mut self, first: &str) {
        let start = self.at;
        let mut segments = vec![first.to_owned()];
        self.at += 1;
        while let (Some(Token::Separator), Some(Token::Word(word))) = (self.token(0), self.token(1)) {
            segments.push(word.to_owned());
            self.at += 2;
        }
        self.add(start, segments, false);
    }

    /// `a::{b, c::*}`; what follows a name (`as d`, `;`) is left to others.
    fn tree(&mut self, mut prefix: Vec<String>) {
        while let Some(token) = self.token(0) {
            self.at += 1;
            match token {
                Token::Separator => {}
                Token::Word(word) => {
                    prefix.push(word.to_owned());
                    if self.token(0) != Some(Token::Separator) {
                        return self.add(self.at - 1, prefix, true);
                    }
                }
                Token::Mark('*') => {
                    prefix.push("*".to_owned());
                    return self.add(self.at - 1, prefix, true);
                }
                Token::Mark('{') => return self.branches(&prefix),
                Token::Mark(_) => return,
            }
        }
    }

    fn branches(&mut self, prefix: &[String]) {
        while let Some(token) = self.token(0) {
            match token {
                Token::Mark('}') => {
                    self.at += 1;
                    return;
                }
                Token::Mark(',') => self.at += 1,
                Token::Word("as") => self.at += 2,
                _ => self.tree(prefix.to_vec()),
            }
        }
    }

    fn add(&mut self, at: usize, segments: Vec<String>, in_use: bool) {
        let in_tests = self.module.iter().any(|name| name == "tests" || name.ends_with("_tests"));
        self.found.push(Path {
            line: self.tokens[at].0,
            segments: self.absolute(segments),
            in_use,
            in_tests,
        });
    }

    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let rest = match segments[0].as_str() {
            "self" if segments.len() > 1 => 1,
            "super" => 0,
            _ => return segments,
        };
        let climbs = segments[rest..].iter().take_while(|segment| *segment == "super").count();
        let base = &self.module[..self.module.len().saturating_sub(climbs)];
        let below = segments[rest + climbs..].iter().cloned();
        ["crate".to_owned()].into_iter().chain(base.iter().cloned()).chain(below).collect()
    }
}

/// Words and marks with their lines; comments and literals are dropped.
fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, token) = if let Some(length) = blank(rest) {
            (length, None)
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (length, Some(Token::Word(&rest[..length])))
        } else if rest.starts_with("::") {
            (2, Some(Token::Separator))
        } else {
            (first.len_utf8(), (!first.is_whitespace()).then_some(Token::Mark(first)))
        };
        found.extend(token.map(|token| (line, token)));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment or literal that `rest` begins with.
fn blank(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    // The prefixes of strings: b, c, r, br, cr. A raw name, r#type, begins alike but has no quote.
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|after| {
            let raw = prefix.ends_with('r');
            after.trim_start_matches(|c| raw && c == '#').starts_with('"')
        })
    });
    match prefix {
        Some(prefix) if prefix.ends_with('r') => Some(raw_string(rest, prefix.len())),
        Some(prefix) => Some(quoted(rest, prefix.len() + 1, '"')),
        None => character(rest),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at == rest.len() {
            return at;
        }
    }
}

fn raw_string(rest: &str, prefix: usize) -> usize {
    let hashes = rest[prefix..].chars().take_while(|c| *c == '#').count();
    let start = prefix + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    rest[start..].find(&end).map_or(rest.len(), |length| start + length + end.len())
}

/// To the closing quote that no backslash precedes.
fn quoted(rest: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return start + at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, or a lifetime with its name.
fn character(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('\'')?;
    let mut chars = after.chars();
    let first = chars.next()?;
    if first == '\\' || chars.next() == Some('\'') {
        return Some(quoted(rest, 1, '\''));
    }
    Some(1 + after.find(|c| !is_word(c)).unwrap_or(after.len()))
}
