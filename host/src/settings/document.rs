//! One settings file as a whole: every mistake in it, not the first alone, and the line of each key.
//!
//! Must not know what the settings mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    SettingsError,
    file::{FileError, Place},
};

/// What was found wrong so far. Nothing is put in force while there are errors.
#[derive(Debug, Default)]
pub struct Mistakes {
    /// What has to be put right.
    pub errors: Vec<SettingsError>,
    /// What may have been overlooked.
    pub warnings: Vec<SettingsError>,
}

impl Mistakes {
    /// Notes an error.
    pub fn push(&mut self, error: impl Into<SettingsError>) {
        self.errors.push(error.into());
    }

    /// Notes what may have been overlooked.
    pub fn warn(&mut self, warning: impl Into<SettingsError>) {
        self.warnings.push(warning.into());
    }

    /// The value of a check, or `None` with its error noted.
    pub fn take<T, E: Into<SettingsError>>(&mut self, checked: Result<T, E>) -> Option<T> {
        checked.map_err(|error| self.push(error)).ok()
    }

    /// A failure that came after mistakes may well follow from them: they are told instead.
    ///
    /// # Errors
    /// There were mistakes, or the failure itself.
    pub fn explain<T>(&mut self, result: Result<T, SettingsError>) -> Result<T, SettingsError> {
        result.map_err(|error| self.settle().err().unwrap_or(error))
    }

    /// Logs the warnings, and gives up if there are errors.
    ///
    /// # Errors
    /// All of them.
    pub fn settle(&mut self) -> Result<(), SettingsError> {
        for warning in self.warnings.drain(..) {
            tracing::warn!("{warning}");
        }
        self.refuse()
    }

    /// Gives up if there are errors, and leaves the warnings.
    ///
    /// # Errors
    /// All of them.
    pub fn refuse(&mut self) -> Result<(), SettingsError> {
        match self.errors.len() {
            0 => Ok(()),
            1 => Err(self.errors.remove(0)),
            _ => Err(SettingsError::Several(std::mem::take(&mut self.errors))),
        }
    }
}

/// A file's path and the lines of its keys.
#[derive(Debug, Default, Clone)]
pub struct Lines {
    path: PathBuf,
    /// By dotted path, elements of lists by number: `plugin[0].grant.secrets`.
    lines: BTreeMap<String, usize>,
    /// All that was written, what was wrong too.
    written: BTreeSet<String>,
}

impl Lines {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line of a key, or of the nearest one above it that the file has; counted from 1.
    pub fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            // Numbers stand at the end of a step: a[0] is nearer than a.
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    /// Whether a key is there; its value may be wrong, and that has been told.
    pub fn has(&self, key: &str) -> bool {
        self.written.contains(key)
    }

    /// Something is wrong at a key.
    pub fn wrong(&self, key: &str, problem: impl Into<String>) -> FileError {
        let place = Place { line: self.line(key), key: Some(without_numbers(key)) };
        FileError::Wrong { path: self.path.clone(), place, problem: problem.into() }
    }

    /// `proxy.toml:12`, as compilers write it and editors jump to it.
    pub fn position(&self, key: &str) -> String {
        match self.line(key) {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }

    /// A path in this file, as seen from its folder.
    ///
    /// # Errors
    /// It begins with `~`, which only a shell knows.
    pub fn resolve(&self, key: &str, path: &Path) -> Result<PathBuf, FileError> {
        if path.starts_with("~") {
            return Err(self.wrong(key, "~ stands for nothing in a file; write the whole path"));
        }
        Ok(self.path.parent().unwrap_or(Path::new("")).join(path))
    }
}

/// The line says which element of a list is meant.
fn without_numbers(key: &str) -> String {
    let mut shown = String::with_capacity(key.len());
    for part in key.split('[') {
        shown.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
    }
    shown
}

/// Takes a file's text apart. What is wrong is noted and left out of the value.
pub fn parse<T: DeserializeOwned + Default>(path: &Path, text: &str, mistakes: &mut Mistakes) -> (T, Lines) {
    let mut lines = Lines { path: path.to_owned(), ..Lines::default() };
    let mut root = match DeTable::parse(text) {
        Ok(root) => root,
        // What isn't TOML is not understood beyond this point.
        Err(error) => {
            mistakes.push(FileError::of_toml(path, text, error));
            return (T::default(), lines);
        }
    };
    lines.written = keys(root.get_ref()).into_iter().map(|(key, _)| key).collect();
    let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let mut wrong = Vec::new();
    // Fields that were there, but wrong: that they are missing now is no news.
    let mut pruned = Vec::new();
    let value = loop {
        match T::deserialize(toml::Deserializer::from(root.clone())) {
            Ok(value) => break value,
            Err(error) => {
                let span = error.span();
                if !pruned.iter().any(|field| error.message() == format!("missing field `{field}`")) {
                    let line = span.as_ref().map(|span| line(span.start));
                    wrong.push((line, FileError::of_toml(path, text, error)));
                }
                // Without the part that is wrong, the next mistake comes to light.
                match span.and_then(|span| prune(root.get_mut(), &span)) {
                    Some(field) => pruned.push(field),
                    None => break T::default(),
                }
            }
        }
    };
    wrong.sort_by_key(|(line, _)| *line);
    for (_, error) in wrong {
        mistakes.push(error);
    }
    let found = keys(root.get_ref());
    lines.lines = found.into_iter().map(|(key, at)| (key, line(at))).collect();
    (value, lines)
}

/// A file's top-level keys and values, without some of them; nothing of a file that is no TOML.
pub fn without(text: &str, keys: &[&str]) -> toml::Table {
    let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
    table.retain(|key, _| !keys.contains(&key));
    table
}

/// Every key with the place where it begins.
fn keys(table: &DeTable<'_>) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    list(table, "", &mut found);
    found
}

fn list(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        let name =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        found.push((name.clone(), key.span().start));
        list_in(value, &name, found);
    }
}

fn list_in(value: &Spanned<DeValue<'_>>, name: &str, found: &mut Vec<(String, usize)>) {
    match value.get_ref() {
        DeValue::Table(table) => list(table, name, found),
        DeValue::Array(array) => {
            for (n, element) in array.iter().enumerate() {
                let name = format!("{name}[{n}]");
                found.push((name.clone(), element.span().start));
                list_in(element, &name, found);
            }
        }
        _ => {}
    }
}

/// Takes off the smallest part that covers the place of a mistake, and gives the key that it stood under, if there was one.
fn prune(table: &mut DeTable<'_>, wrong: &Range<usize>) -> Option<String> {
    let smallest = smallest(table, wrong)?;
    remove(table, wrong, smallest)
}

fn covers(span: &Range<usize>, wrong: &Range<usize>) -> bool {
    span.start <= wrong.start && wrong.end <= span.end
}

/// The length of the smallest key or value that covers the place. Tables by header don't cover what is in them, so that
/// all are searched.
fn smallest(table: &DeTable<'_>, wrong: &Range<usize>) -> Option<usize> {
    let entries = table.iter().flat_map(|(key, value)| {
        let key = covers(&key.span(), wrong).then(|| key.span().len());
        key.into_iter().chain(smallest_in(value, wrong))
    });
    entries.min()
}

fn smallest_in(value: &Spanned<DeValue<'_>>, wrong: &Range<usize>) -> Option<usize> {
    let own = covers(&value.span(), wrong).then(|| value.span().len());
    let inner = match value.get_ref() {
        DeValue::Table(table) => smallest(table, wrong),
        DeValue::Array(array) => array.iter().filter_map(|element| smallest_in(element, wrong)).min(),
        _ => None,
    };
    own.into_iter().chain(inner).min()
}

fn remove(table: &mut DeTable<'_>, wrong: &Range<usize>, length: usize) -> Option<String> {
    let is = |span: Range<usize>| span.len() == length && covers(&span, wrong);
    if let Some(inner) = table.iter_mut().find_map(|(_, value)| remove_in(value, wrong, length)) {
        return Some(inner);
    }
    let own = table.iter().find(|(key, value)| is(key.span()) || is(value.span()))?.0.clone();
    table.remove(&own);
    Some(own.into_inner().into_owned())
}

fn remove_in(value: &mut Spanned<DeValue<'_>>, wrong: &Range<usize>, length: usize) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(table) => remove(table, wrong, length),
        DeValue::Array(array) => {
            if let Some(inner) = array.iter_mut().find_map(|element| remove_in(element, wrong, length)) {
                return Some(inner);
            }
            let is = |span: Range<usize>| span.len() == length && covers(&span, wrong);
            let at = array.iter().position(|element| is(element.span()))?;
            let others = array.iter().enumerate().filter(|(n, _)| *n != at);
            *array = others.map(|(_, element)| element.clone()).collect();
            Some(String::new())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct File {
        number: Option<u32>,
        #[serde(default)]
        table: Table,
        #[serde(default)]
        element: Vec<Table>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Table {
        text: Option<String>,
        list: Option<Vec<u8>>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        wanted: bool,
    }

    fn read(text: &str) -> (File, Lines, Vec<String>) {
        let mut mistakes = Mistakes::default();
        let (file, lines) = parse(Path::new("x.toml"), text, &mut mistakes);
        (file, lines, mistakes.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_what_is_right_is_kept() {
        let text = "number = 'no'\nunknown = 1\n[table]\ntext = 'yes'\nlist = [1, 'two', 3, 400]\n\n[[element]]\n\
                    text = 5\n[[element]]\ntext = 'good'\nodd = true\ninner = {}\n[[element]]\ninner = { wanted = 3 }\n";
        let (file, _, errors) = read(text);
        let lines = [1, 2, 5, 5, 8, 11, 12, 14];
        assert_eq!(errors.len(), lines.len(), "{errors:#?}");
        for (line, error) in lines.iter().zip(&errors) {
            let rest = error.strip_prefix(&format!("x.toml, line {line}"));
            assert!(rest.is_some_and(|rest| rest.starts_with([',', ':'])), "line {line}: {errors:#?}");
        }
        assert_eq!(file.table.text.as_deref(), Some("yes"));
        assert_eq!(file.table.list, Some(vec![1, 3]));
        assert_eq!(file.element[1].text.as_deref(), Some("good"));
    }

    #[test]
    fn what_is_no_toml_is_one_mistake() {
        let (file, _, errors) = read("number = 1\nnumber = 2\n[[[\n");
        assert_eq!((file, errors.len()), (File::default(), 1), "{errors:?}");
    }

    #[test]
    fn keys_have_lines_and_absent_ones_those_of_their_table() {
        let text = "number = 1\n\n[table]\nlist = [\n  1,\n  2,\n]\n[[element]]\n[[element]]\ntext = ''\n";
        let (_, lines, errors) = read(text);
        assert_eq!(errors, [""; 0]);
        for (key, line) in [
            ("number", Some(1)),
            ("table.list[1]", Some(6)),
            ("table.text", Some(3)),
            ("element[0].text", Some(8)),
            ("element[1].text", Some(10)),
            ("nothing", None),
        ] {
            assert_eq!(lines.line(key), line, "{key}");
        }
        assert_eq!(lines.position("element[1]"), "x.toml:9");
        let wrong = lines.wrong("element[1].text", "it is wrong").to_string();
        assert_eq!(wrong, "x.toml, line 10, element.text: it is wrong");
    }
}
