//! Lines on standard output for programs to read: words `name=value`, separated by single spaces, with keys and values
//! in quotes and escaped.

use std::fmt;
use std::io::{self, BufWriter, Write};

use crate::exit::RunError;

/// Writes to standard output with `print`. A reader that has gone away (`raftd log | head`) has seen enough.
pub(crate) fn to_stdout(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), RunError> {
    let mut output = BufWriter::new(io::stdout().lock());
    match print(&mut output).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(RunError::failed_at("cannot write to standard output", error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says on standard error what a reader of standard output should know.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "raftd: note: {text}");
}

/// Bytes in quotes, as printable ASCII; the rest as `\n`, `\"`, `\xNN`.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for byte in self.0 {
            match byte {
                b'\'' => f.write_str("'")?,
                _ => write!(f, "{}", byte.escape_ascii())?,
            }
        }
        f.write_str("\"")
    }
}

/// The most bytes of a value that [`Shortened`] shows.
const SHOWN_BYTES: usize = 64;

/// The word `name="bytes"`; of a long one only the beginning, and then its size: `name="begin" name_bytes=N`.
pub(crate) struct Shortened<'a> {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bytes } = self;
        match bytes.get(..SHOWN_BYTES) {
            Some(shown) if shown.len() < bytes.len() => {
                write!(f, "{name}={} {name}_bytes={}", Quoted(shown), bytes.len())
            }
            Some(_) | None => write!(f, "{name}={}", Quoted(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_as_one_safe_line() {
        assert_eq!(Quoted(b"a b='c'").to_string(), r#""a b='c'""#);
        assert_eq!(Quoted(b"\"\\\n\x1b[31m\xff").to_string(), r#""\"\\\n\x1b[31m\xff""#);
        assert_eq!(Quoted(b"").to_string(), r#""""#);
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let word = |length: usize| Shortened { name: "value", bytes: &vec![b'a'; length] }.to_string();
        assert_eq!(word(64), format!("value=\"{}\"", "a".repeat(64)));
        assert_eq!(word(65), format!("value=\"{}\" value_bytes=65", "a".repeat(64)));
    }
}
