//! The configuration file: TOML, one key a setting, `_` and `-` alike. A byte order mark, CRLF line ends and an empty
//! file are fine; an unknown key, a key given twice and a value of the wrong type are not.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::FileError;
use super::setting::{Kind, Setting, nearest};
use super::sources::{Given, Layer, Origin};
use crate::units::shorten;

/// No configuration comes near it; the log of some other program might.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Layer, FileError> {
    let bytes = read_bytes(path)?;
    let text = match str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes.iter().take(error.valid_up_to());
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            return Err(FileError::NotUnicode { path: path.to_owned(), line });
        }
    };
    Source { path, text: text.strip_prefix('\u{feff}').unwrap_or(text) }.layer()
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source: io::Error| FileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(FileError::Directory { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    // Not by the file's size, which a pipe or a device does not have.
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { path: path.to_owned(), limit_bytes: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// A file's text, and its name for errors.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn layer(&self) -> Result<Layer, FileError> {
        let table = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        let mut layer = Layer::new();
        // In the order of the file, so that the first mistake in it is the one reported.
        let mut items: Vec<_> = table.get_ref().iter().collect();
        items.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in items {
            let line = self.line_at(&key.span());
            let setting = self.setting(key.get_ref(), line)?;
            let text = self.value_text(setting, line, value)?;
            let origin = Origin::File { path: self.path.to_owned(), line };
            if layer.insert(setting, Given { setting, text, origin }).is_some() {
                return Err(FileError::Duplicate { path: self.path.to_owned(), line, setting });
            }
        }
        Ok(layer)
    }

    fn setting(&self, key: &str, line: usize) -> Result<Setting, FileError> {
        Setting::named(key).ok_or_else(|| {
            let known = Setting::ALL.into_iter().map(|setting| setting.name().to_owned());
            let suggestion = nearest(&key.replace('_', "-").to_ascii_lowercase(), known);
            FileError::UnknownKey { path: self.path.to_owned(), line, key: shorten(key), suggestion }
        })
    }

    /// The value as it would stand on the command line.
    fn value_text(&self, setting: Setting, line: usize, value: &Spanned<DeValue<'_>>) -> Result<String, FileError> {
        let value = value.get_ref();
        let string = || value.as_str().map(str::to_owned);
        let integer = || value.as_integer().and_then(decimal);
        let (text, wanted) = match setting.kind() {
            Kind::Text => (string(), "a string"),
            Kind::Number => (integer(), "an integer"),
            Kind::Size => (integer().or_else(string), "an integer, or a string such as \"64MiB\""),
            Kind::Duration => (string(), "a string such as \"30ms\""),
            Kind::List => (string().or_else(|| joined(value)), "a string, or an array of strings"),
        };
        text.ok_or_else(|| FileError::WrongType {
            path: self.path.to_owned(),
            line,
            setting,
            wanted,
            found: with_article(value.type_str()),
        })
    }

    fn syntax(&self, error: &toml::de::Error) -> FileError {
        let span = error.span().unwrap_or_default();
        let line = self.line_at(&span);
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        FileError::Syntax {
            path: self.path.to_owned(),
            line,
            message: error.message().replace('\n', ", "),
            text: shorten(text.trim()),
        }
    }

    /// The line of a place in the text, from 1.
    fn line_at(&self, span: &Range<usize>) -> usize {
        1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
    }
}

/// An integer of any base and of 64 bits or a sign, in decimal digits. What does not fit is left as it is, for the
/// reader of numbers to refuse.
fn decimal(integer: &DeInteger<'_>) -> Option<String> {
    match i128::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => Some(number.to_string()),
        Err(_) => Some(integer.as_str().to_owned()),
    }
}

/// The items of an array of strings, separated by commas.
fn joined(value: &DeValue<'_>) -> Option<String> {
    let items: Option<Vec<&str>> = value.as_array()?.iter().map(|item| item.get_ref().as_str()).collect();
    Some(items?.join(","))
}

fn with_article(kind: &'static str) -> &'static str {
    match kind {
        "string" => "a string",
        "integer" => "an integer",
        "float" => "a float",
        "boolean" => "a boolean",
        "datetime" => "a date",
        "array" => "an array of that",
        "table" => "a table",
        other => other,
    }
}
