//! What is looked for and changed in JSON.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// What stands where something was taken out.
const BLANK: &str = "***";

/// The kind of a field.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Any,
    Text,
    Number,
    Boolean,
    List,
    Object,
}

impl Kind {
    pub(crate) fn fits(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "there",
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}

/// Replaces words in all texts, in upper and lower case alike, and says whether there were any.
pub(crate) fn replace_words(value: &mut Value, words: &[String]) -> bool {
    match value {
        Value::String(text) => {
            let replaced = words.iter().fold(text.clone(), |text, word| without(&text, word));
            let changed = replaced != *text;
            *text = replaced;
            changed
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| replace_words(item, words) | any),
        Value::Object(fields) => {
            fields.values_mut().fold(false, |any, field| replace_words(field, words) | any)
        }
        _ => false,
    }
}

/// Blanks the fields of these names at any depth, and says whether there were any.
pub(crate) fn blank(value: &mut Value, names: &[String]) -> bool {
    match value {
        Value::Array(items) => items.iter_mut().fold(false, |any, item| blank(item, names) | any),
        Value::Object(fields) => fields.iter_mut().fold(false, |any, (name, field)| {
            if names.contains(name) {
                *field = Value::from(BLANK);
                return true;
            }
            blank(field, names) | any
        }),
        _ => false,
    }
}

fn without(text: &str, word: &str) -> String {
    let (plain, word) = (lower_case(text), lower_case(word));
    let mut replaced = String::new();
    let mut start = 0;
    for (at, found) in plain.match_indices(&word) {
        replaced.push_str(&text[start..at]);
        replaced.push_str(BLANK);
        start = at + found.len();
    }
    replaced.push_str(&text[start..]);
    replaced
}

/// Byte for byte as long as `text`: the few letters that have no lower case of their own length stay.
fn lower_case(text: &str) -> String {
    let same_length = |letter: char| {
        let mut lower = letter.to_lowercase();
        lower.next().filter(|one| lower.next().is_none() && one.len_utf8() == letter.len_utf8())
    };
    text.chars().map(|letter| same_length(letter).unwrap_or(letter)).collect()
}
