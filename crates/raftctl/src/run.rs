//! One run of the process: which of the three ways it is, and how it ends.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::answer::Answer;
use crate::execute::{self, Session};
use crate::failure::{Exit, Failure, FailureKind};
use crate::flags::Flags;
use crate::output::{Form, Output, Terminal};
use crate::{parse, repl, script, table};

/// Runs `raftctl` with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let ended = match Flags::read(arguments.clone()) {
        Ok(flags) => run_with(flags),
        // `--help` and `--version`.
        Err(text) if text.exit_code() == 0 => print(&text.render().to_string()),
        Err(error) => refuse_flags(&arguments, &error),
    };
    let exit = ended.unwrap_or_else(|error| unwritable(&error));
    ExitCode::from(exit.0)
}

fn run_with(flags: Flags) -> io::Result<Exit> {
    let mut output = standard_output(flags.output);
    let words: Vec<Vec<u8>> = flags.command.iter().cloned().map(OsString::into_vec).collect();
    let command = match words.is_empty() {
        true => None,
        false => match parse::command(&words) {
            Ok(command) => Some(command),
            Err(failure) => return output.write(&Err(failure)),
        },
    };
    let refused = |message: String| {
        let (op, writes) = command.as_ref().map_or(("", false), |command| (command.op(), command.writes()));
        Err(Failure::unsent(op, writes, FailureKind::Usage, message))
    };
    let config = match flags.client_config() {
        Ok(config) => config,
        Err(message) => return output.write(&refused(message)),
    };
    let session = match Session::new(config, flags.consistency()) {
        Ok(session) => session,
        Err(error) => return output.write(&refused(error.to_string())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Some(command) => {
            let result = runtime.block_on(execute::to_output(&session, command, &mut output))?;
            output.write(&result)
        }
        None if io::stdin().is_terminal() => repl::run(&runtime, &session, &mut output, &flags.endpoints),
        None => run_script(&runtime, &session, flags.keep_going, &mut output),
    }
}

fn run_script<Out: Write, Notes: Write>(
    runtime: &Runtime,
    session: &Session,
    keep_going: bool,
    output: &mut Output<Out, Notes>,
) -> io::Result<Exit> {
    script::run(io::stdin().lock(), keep_going, output, |command, output| {
        runtime.block_on(execute::to_output(session, command, output))
    })
}

fn standard_output(form: Form) -> Output<io::BufWriter<io::Stdout>, io::Stderr> {
    let (out, notes) = (io::stdout(), io::stderr());
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = Terminal { out: out.is_terminal(), colour: notes.is_terminal() && !no_colour };
    Output::new(form, terminal, io::BufWriter::new(out), notes)
}

/// Flags that cannot be read. Their form is asked for by the same flags, so it is looked for in what there is.
fn refuse_flags(arguments: &[OsString], error: &clap::Error) -> io::Result<Exit> {
    let text = error.render().to_string();
    if !wants_json(arguments) {
        eprint!("{text}");
        return Ok(Exit::USAGE);
    }
    let spec = arguments.iter().skip(1).find_map(|word| table::find(word.to_str()?));
    let first_line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let message = format!("{first_line}; see raftctl --help");
    let (op, writes) = spec.map_or(("", false), |spec| (spec.name, spec.writes));
    let failure: Result<Answer, Failure> = Err(Failure::unsent(op, writes, FailureKind::Usage, message));
    standard_output(Form::Json).write(&failure)
}

fn wants_json(arguments: &[OsString]) -> bool {
    let flag =
        arguments.iter().zip(arguments.iter().skip(1)).any(|(flag, value)| flag == "--output" && value == "json");
    flag || arguments.iter().any(|word| word == "--output=json")
        || std::env::var_os("RAFTCTL_OUTPUT").is_some_and(|form| form == "json")
}

fn print(text: &str) -> io::Result<Exit> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::DONE)
}

/// Answers cannot be written. A reader that left, as in `raftctl scan | head`, is no news to anybody.
fn unwritable(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::DONE;
    }
    // Nowhere is left to say it, if standard error is gone too.
    let _ = writeln!(io::stderr(), "server: cannot write the answer: {error}");
    Exit::REFUSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_wanted_even_where_other_flags_are_wrong() {
        let wants = |line: &[&str]| wants_json(&line.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(wants(&["raftctl", "--output", "json", "--frob"]));
        assert!(wants(&["raftctl", "--frob", "--output=json"]));
        assert!(!wants(&["raftctl", "--frob"]));
    }
}
