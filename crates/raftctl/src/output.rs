//! Where answers go: one JSON line each, or text; flushed one by one, so that whoever reads them need not wait.

use std::io::{self, Write};

use crate::answer::{Answer, json_line};
use crate::failure::{Exit, Failure};
use crate::text;

/// The form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people and pipes.
    Text,
    /// One line a command, for programs.
    Json,
}

/// What standard output and standard error are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Standard output is a terminal.
    pub out: bool,
    /// Standard error is a terminal that wants colour.
    pub colour: bool,
}

/// Writes answers.
pub struct Output<Out, Notes> {
    form: Form,
    terminal: Terminal,
    out: Out,
    notes: Notes,
}

impl<Out: Write, Notes: Write> Output<Out, Notes> {
    /// Answers go to `out`; explanations and, in text, failures to `notes`.
    pub const fn new(form: Form, terminal: Terminal, out: Out, notes: Notes) -> Self {
        Self { form, terminal, out, notes }
    }

    /// Writes and flushes one answer, and gives the exit code it stands for.
    ///
    /// # Errors
    /// If it cannot be written; [`io::ErrorKind::BrokenPipe`] if nobody reads any more.
    pub fn write(&mut self, result: &Result<Answer, Failure>) -> io::Result<Exit> {
        match (self.form, result) {
            // `--raw` is about bytes, whatever the form; a failure is told in the form asked for.
            (Form::Text, Ok(answer)) | (Form::Json, Ok(answer @ Answer::Get { raw: true, .. })) => {
                self.write_text(answer)?;
            }
            // Its lines were written as they came.
            (Form::Json, Ok(Answer::Told)) => {}
            (Form::Text, Err(failure)) => self.write_failure(failure)?,
            (Form::Json, Ok(_) | Err(_)) => writeln!(self.out, "{}", json_line(result))?,
        }
        self.out.flush()?;
        Ok(match result {
            Ok(answer) => answer.exit(),
            Err(failure) => failure.kind.exit(),
        })
    }

    fn write_text(&mut self, answer: &Answer) -> io::Result<()> {
        let text = text::render(answer, self.terminal.out);
        self.out.write_all(&text.out)?;
        if !text.note.is_empty() {
            // What is noted belongs behind what was answered, also where both go to one terminal.
            self.out.flush()?;
            writeln!(self.notes, "{}", text.note)?;
        }
        Ok(())
    }

    fn write_failure(&mut self, failure: &Failure) -> io::Result<()> {
        self.out.flush()?;
        let (red, plain) = if self.terminal.colour { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
        let doubt = if failure.maybe_applied == Some(true) { " (it may have been applied)" } else { "" };
        let message = text::harmless(&failure.message);
        writeln!(self.notes, "{red}{}:{plain} {message}{doubt}", failure.kind.name())?;
        self.notes.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn written(form: Form, terminal: Terminal, result: &Result<Answer, Failure>) -> (String, String, Exit) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let exit = Output::new(form, terminal, &mut out, &mut notes).write(result).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap(), exit)
    }

    fn failure() -> Result<Answer, Failure> {
        let message = r"no \' answer".to_owned() + "\u{1b}";
        Err(Failure { maybe_applied: Some(true), ..Failure::unsent("set", true, FailureKind::Timeout, message) })
    }

    #[test]
    fn json_is_one_line_on_standard_output_also_for_failures() {
        let (out, notes, exit) = written(Form::Json, Terminal { out: true, colour: true }, &failure());
        let line = r#"{"ok":false,"op":"set","error":"timeout","message":"no \\' answer\u001b","maybe_applied":true}"#;
        assert_eq!((out, notes, exit), (format!("{line}\n"), String::new(), Exit(4)));
    }

    #[test]
    fn text_failures_go_to_standard_error_in_colour_only_where_it_is_wanted() {
        let (out, notes, exit) = written(Form::Text, Terminal::default(), &failure());
        assert_eq!(out, "");
        assert_eq!(notes, "timeout: no \\' answer\\u{1b} (it may have been applied)\n");
        assert_eq!(exit, Exit(4));
        let (_, notes, _) = written(Form::Text, Terminal { out: true, colour: true }, &failure());
        assert!(notes.starts_with("\u{1b}[31mtimeout:\u{1b}[0m "));
    }

    #[test]
    fn answers_in_text_leave_standard_error_empty() {
        let (out, notes, exit) =
            written(Form::Text, Terminal::default(), &Ok(Answer::Swapped { swapped: false, revision: 3 }));
        assert_eq!((out.as_str(), notes.as_str()), ("not swapped, the value is another; revision 3\n", ""));
        assert_eq!(exit, Exit::NEGATIVE);
    }
}
