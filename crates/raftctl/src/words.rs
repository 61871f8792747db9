//! Splits a line into words, as a POSIX shell quotes them, plus `$'\xNN'` for bytes that cannot be typed.
//!
//! | written | means |
//! |---|---|
//! | `a b` | two words; spaces and tabs part them |
//! | `'a "b'` | one word, every byte as it is |
//! | `"a \"b\""` | one word; `\` stands before `"`, `\`, `$` and `` ` `` and is itself elsewhere |
//! | `a\ b` | one word; `\` takes the next byte as it is |
//! | `$'\x00\n'` | one word of two bytes; see `ansi_escape` for the escapes |
//!
//! Quoting is all there is: no variables, no globs, no `;`, `|` or `>`, no comment in the middle of a line. Words are
//! bytes, so keys and values need not be UTF-8. The only state is the place in the line; nothing here does I/O.

/// Why a line cannot be split. Positions count bytes from 1, as an editor's columns do for ASCII.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is opened and not closed.
    #[error(
        "the {quote} opened at column {column} is not closed; close it, or write \\{quote} for the character itself"
    )]
    UnclosedQuote {
        /// `'`, `"` or `$'`.
        quote: &'static str,
        /// Where it was opened.
        column: usize,
    },
    /// The last byte is a backslash that has nothing to act on.
    #[error("the line ends in a backslash (column {column}); write \\\\ for the character itself")]
    TrailingBackslash {
        /// Where it stands.
        column: usize,
    },
    /// An escape inside `$'..'` that has no meaning.
    #[error(
        "column {column}: {escape} is no escape of $'..'; there are \\n \\t \\r \\0 \\a \\b \\e \\f \\v \\\\ \\' \\\" \\NNN and \\xNN"
    )]
    UnknownEscape {
        /// Where its backslash stands.
        column: usize,
        /// The escape, made printable.
        escape: String,
    },
}

/// A line under way: a cursor, never past the end.
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Takes the next byte if it is `wanted`.
    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// The column of the byte taken last.
    const fn column(&self) -> usize {
        self.at
    }

    /// Up to `most` digits of `radix`, as the byte they name; wraps like a shell does.
    fn digits(&mut self, radix: u32, most: usize) -> Option<u8> {
        let mut value: u32 = 0;
        let mut taken = 0;
        while taken < most {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(radix)) else { break };
            value = value * radix + digit;
            self.at += 1;
            taken += 1;
        }
        (taken > 0).then_some((value & 0xFF) as u8)
    }
}

/// Splits `line` into words. An empty or blank line has none.
///
/// # Errors
/// [`SplitError`] if a quote or an escape is not complete, with its column.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, SplitError> {
    let mut cursor = Cursor { line, at: 0 };
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    while let Some(byte) = cursor.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => single_quoted(&mut cursor, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut cursor, word.get_or_insert_default())?,
            b'$' if cursor.take(b'\'') => ansi_quoted(&mut cursor, word.get_or_insert_default())?,
            b'\\' => {
                let column = cursor.column();
                let literal = cursor.next().ok_or(SplitError::TrailingBackslash { column })?;
                word.get_or_insert_default().push(literal);
            }
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(cursor: &mut Cursor<'_>, word: &mut Vec<u8>) -> Result<(), SplitError> {
    let column = cursor.column();
    loop {
        match cursor.next() {
            Some(b'\'') => return Ok(()),
            Some(byte) => word.push(byte),
            None => return Err(SplitError::UnclosedQuote { quote: "'", column }),
        }
    }
}

fn double_quoted(cursor: &mut Cursor<'_>, word: &mut Vec<u8>) -> Result<(), SplitError> {
    let column = cursor.column();
    loop {
        match cursor.next() {
            Some(b'"') => return Ok(()),
            Some(b'\\') if matches!(cursor.peek(), Some(b'"' | b'\\' | b'$' | b'`')) => word.extend(cursor.next()),
            Some(byte) => word.push(byte),
            None => return Err(SplitError::UnclosedQuote { quote: "\"", column }),
        }
    }
}

fn ansi_quoted(cursor: &mut Cursor<'_>, word: &mut Vec<u8>) -> Result<(), SplitError> {
    // The cursor stands behind the quote; the column is the dollar's.
    let column = cursor.column() - 1;
    let unclosed = SplitError::UnclosedQuote { quote: "$'", column };
    loop {
        match cursor.next() {
            Some(b'\'') => return Ok(()),
            Some(b'\\') if cursor.peek().is_none() => return Err(unclosed),
            Some(b'\\') => word.push(ansi_escape(cursor)?),
            Some(byte) => word.push(byte),
            None => return Err(unclosed),
        }
    }
}

/// The byte that an escape inside `$'..'` stands for: `\n \t \r \a \b \e \f \v \\ \' \"`, `\NNN` (one to three octal
/// digits, so `\0` is NUL) and `\xNN` (one or two hexadecimal digits). Anything else is refused rather than guessed.
fn ansi_escape(cursor: &mut Cursor<'_>) -> Result<u8, SplitError> {
    let column = cursor.column();
    let unknown = |letter: Option<u8>| SplitError::UnknownEscape {
        column,
        escape: format!("\\{}", letter.map(|byte| byte.escape_ascii().to_string()).unwrap_or_default()),
    };
    if let Some(octal) = cursor.digits(8, 3) {
        return Ok(octal);
    }
    match cursor.next() {
        Some(b'n') => Ok(b'\n'),
        Some(b't') => Ok(b'\t'),
        Some(b'r') => Ok(b'\r'),
        Some(b'a') => Ok(0x07),
        Some(b'b') => Ok(0x08),
        Some(b'e') => Ok(0x1B),
        Some(b'f') => Ok(0x0C),
        Some(b'v') => Ok(0x0B),
        Some(literal @ (b'\\' | b'\'' | b'"')) => Ok(literal),
        Some(b'x') => cursor.digits(16, 2).ok_or_else(|| unknown(Some(b'x'))),
        other => Err(unknown(other)),
    }
}

/// Writes `word` so that [`split`] reads it back: bare where that is safe, in single quotes where it is printable, else
/// with escapes.
#[must_use]
pub fn quote(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:=,@%+".contains(byte);
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && word.iter().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        Ok(_) | Err(_) => {
            let escaped = word.iter().map(|byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b'\n' => r"\n".to_owned(),
                b'\t' => r"\t".to_owned(),
                b'\r' => r"\r".to_owned(),
                b' '..=b'~' => char::from(*byte).to_string(),
                other => format!("\\x{other:02x}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn words(line: &str, expected: &[&str]) {
        let expected: Vec<Vec<u8>> = expected.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(split(line.as_bytes()), Ok(expected), "{line}");
    }

    #[test]
    fn blanks_part_words_and_quotes_join_them() {
        words("", &[]);
        words(" \t ", &[]);
        words("set a 1", &["set", "a", "1"]);
        words("  set\t a  1 ", &["set", "a", "1"]);
        words("set '' \"\"", &["set", "", ""]);
        words("a'b c'\"d e\"f", &["ab cd ef"]);
    }

    #[test]
    fn each_quote_has_its_own_rules_for_the_backslash() {
        words(r"a\ b \' \\ \a", &["a b", "'", r"\", "a"]);
        words(r"'a\b' '\'", &[r"a\b", r"\"]);
        words(r#""\" \\ \$ \` \n 'x'""#, &[r#"" \ $ ` \n 'x'"#]);
        words("$'a\\n\\t\\\\\\'\\\"'", &["a\n\t\\'\""]);
    }

    #[test]
    fn nothing_of_the_shell_beyond_quoting_has_a_meaning() {
        words("a; b|c >d $HOME *", &["a;", "b|c", ">d", "$HOME", "*"]);
        words("set k #1 # two", &["set", "k", "#1", "#", "two"]);
        words("$ $x $", &["$", "$x", "$"]);
    }

    #[test]
    fn escapes_name_any_byte() {
        assert_eq!(split(br"$'\x00\xff\xFg\0\101\3779'"), Ok(vec![vec![0, 255, 15, b'g', 0, b'A', 255, b'9']]));
        assert_eq!(split(&[0xC3, b' ', 0]), Ok(vec![vec![0xC3], vec![0]]));
    }

    #[test]
    fn what_is_not_closed_is_an_error_that_says_where() {
        assert_eq!(split(b"set a 'b"), Err(SplitError::UnclosedQuote { quote: "'", column: 7 }));
        assert_eq!(split(b"\"a\\\""), Err(SplitError::UnclosedQuote { quote: "\"", column: 1 }));
        assert_eq!(split(b"a $'b\\"), Err(SplitError::UnclosedQuote { quote: "$'", column: 3 }));
        assert_eq!(split(b"a\\"), Err(SplitError::TrailingBackslash { column: 2 }));
        assert_eq!(split(b"$'\\q'"), Err(SplitError::UnknownEscape { column: 3, escape: "\\q".into() }));
        assert_eq!(split(b"$'\\xg'"), Err(SplitError::UnknownEscape { column: 3, escape: "\\x".into() }));
    }

    #[test]
    fn quoting_is_as_light_as_it_can_be() {
        assert_eq!(quote(b"config/a"), "config/a");
        assert_eq!(quote(b""), "''");
        assert_eq!(quote(b"it's"), r"'it'\''s'");
        assert_eq!(quote(b"a\n\x00"), r"$'a\n\x00'");
        assert_eq!(quote("käse".as_bytes()), "'käse'");
    }

    proptest! {
        #[test]
        fn quoted_words_are_read_back(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(line.as_bytes()), Ok(words));
        }

        #[test]
        fn no_line_panics(line in prop::collection::vec(prop::sample::select(b"a '\"\\$x0n\xff\t".to_vec()), 0..40)) {
            let _ = split(&line);
        }
    }
}
