//! Script mode: one command a line, one answer a command, in order.
//!
//! A line has at most [`MAX_LINE_BYTES`]; of a longer one only the beginning is kept, to name the command that is refused.
//! Blank lines and lines that begin with `#` have no answer. A line may end in CR LF, and the last one in nothing.

use std::io::{self, BufRead, Write};

use crate::answer::Answer;
use crate::command::Command;
use crate::failure::{Exit, Failure, FailureKind};
use crate::output::Output;
use crate::{parse, table, words};

/// The longest line, without its end: room for a value of 1 MiB, quoted generously.
pub const MAX_LINE_BYTES: usize = 3 << 20;

/// So much of a line that is too long is looked at.
const BEGINNING_BYTES: usize = 64;

/// A line of the script.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong { beginning: Vec<u8> },
}

/// Runs all lines of `input`: each is parsed, carried out by `execute`, and answered before the next one is read.
/// Ends at the first failure unless `keep_going`. The result is the code of the first failure, or 0.
///
/// A negative answer (`"ok":true`, such as the `get` of an absent key) is no failure here: a script reads it from the
/// answer.
///
/// # Errors
/// If answers cannot be written.
pub fn run<Out: Write, Notes: Write>(
    mut input: impl BufRead,
    keep_going: bool,
    output: &mut Output<Out, Notes>,
    mut execute: impl FnMut(Command, &mut Output<Out, Notes>) -> io::Result<Result<Answer, Failure>>,
) -> io::Result<Exit> {
    let mut first_failure = None;
    loop {
        let result = match next_line(&mut input) {
            Ok(None) => break,
            Ok(Some(line)) => match read(line) {
                Ok(None) => continue,
                Ok(Some(command)) => execute(command, output)?,
                Err(failure) => Err(failure),
            },
            Err(error) => {
                let message = format!("standard input cannot be read: {error}");
                let exit = output.write(&Err(Failure::unsent("", false, FailureKind::Usage, message)))?;
                return Ok(first_failure.unwrap_or(exit));
            }
        };
        let exit = output.write(&result)?;
        if result.is_err() {
            first_failure.get_or_insert(exit);
            if !keep_going {
                break;
            }
        }
    }
    Ok(first_failure.unwrap_or(Exit::DONE))
}

/// The command on a line, if there is one.
fn read(line: Line) -> Result<Option<Command>, Failure> {
    match line {
        Line::Whole(line) => read_line(&line),
        Line::TooLong { beginning } => {
            let message = format!("the line has more than {MAX_LINE_BYTES} bytes");
            Err(refusal(&beginning, FailureKind::TooLarge, message))
        }
    }
}

/// The command that a line of the script or the REPL holds, if it holds one.
///
/// # Errors
/// If it is written wrongly, or makes sense only as a command of its own.
pub fn read_line(line: &[u8]) -> Result<Option<Command>, Failure> {
    let words = match words::split(line) {
        _ if line.trim_ascii_start().starts_with(b"#") => return Ok(None),
        Ok(words) if words.is_empty() => return Ok(None),
        Ok(words) => words,
        Err(error) => return Err(refusal(line, FailureKind::Usage, error.to_string())),
    };
    let command = parse::command(&words)?;
    match command.one_shot_only() {
        Some(reason) => Err(Failure::unsent(command.op(), command.writes(), FailureKind::Usage, reason)),
        None => Ok(Some(command)),
    }
}

/// A failure of a line that could not be read; its first bytes name the command, if it is one.
fn refusal(line: &[u8], kind: FailureKind, message: String) -> Failure {
    let name = line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let spec = std::str::from_utf8(name).ok().and_then(table::find);
    Failure::unsent(spec.map_or("", |spec| spec.name), spec.is_some_and(|spec| spec.writes), kind, message)
}

/// The next line without its end; `None` at the end of the input.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    let mut is_begun = false;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let at_end = chunk.is_empty();
        is_begun |= !at_end;
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let (content, used) = match newline.and_then(|at| chunk.split_at_checked(at)) {
            Some((content, _)) => (content, content.len() + 1),
            None => (chunk, chunk.len()),
        };
        // One byte more than the limit, for the CR of a line that is exactly as long as it may be.
        is_too_long |= line.len() + content.len() > MAX_LINE_BYTES + 1;
        if !is_too_long {
            line.extend_from_slice(content);
        } else if line.len() < BEGINNING_BYTES {
            line.extend(content.iter().take(BEGINNING_BYTES));
        } else {
            line.truncate(BEGINNING_BYTES);
            line.shrink_to_fit();
        }
        input.consume(used);
        if newline.is_some() || at_end {
            break;
        }
    }
    Ok(is_begun.then(|| finished(line, is_too_long)))
}

fn finished(mut line: Vec<u8>, is_too_long: bool) -> Line {
    if !is_too_long && line.last() == Some(&b'\r') {
        line.pop();
    }
    if is_too_long || line.len() > MAX_LINE_BYTES {
        line.truncate(BEGINNING_BYTES);
        return Line::TooLong { beginning: line };
    }
    Line::Whole(line)
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
