//! The REPL: a line, an answer, and no way to fall out of it by accident.
//!
//! Ctrl-C gives up the line, or the command that runs; Ctrl-D leaves. Errors never end it.

use std::io::{self, Write};
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Context, Editor, Helper, Highlighter, Hinter, Validator};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::answer::Answer;
use crate::command::Command;
use crate::execute::{self, Session};
use crate::failure::{Exit, Failure, FailureKind};
use crate::output::Output;
use crate::script::read_line;
use crate::table::{self, COMMANDS};

const PROMPT: &str = "raftctl> ";

/// Lines kept in the history file.
const HISTORY_LINES: usize = 1_000;

/// Runs the REPL until Ctrl-D or `exit`.
///
/// # Errors
/// If the terminal cannot be used, or answers cannot be written.
pub fn run<Out: Write, Notes: Write>(
    runtime: &Runtime,
    session: &Session,
    output: &mut Output<Out, Notes>,
    endpoints: &str,
) -> io::Result<Exit> {
    // From here on Ctrl-C does not end the process, also while a line is read from a terminal that cannot be edited.
    let _handler = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    let history = history_file();
    let mut editor = editor(history.as_ref())?;
    eprintln!("raftctl at {endpoints}: `help` lists the commands, Ctrl-D leaves");
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                eprintln!("usage: the line is not UTF-8; write other bytes as $'\\xNN'");
                continue;
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        if let Some(history) = &history {
            // A history that cannot be written is only a history that is not there next time.
            let _ = editor.append_history(history);
        }
        if matches!(line.trim(), "exit" | "quit") {
            break;
        }
        match read_line(line.as_bytes()) {
            Ok(None) => {}
            Ok(Some(command)) => {
                let result = run_until_interrupted(runtime, session, command, output)?;
                output.write(&result)?;
            }
            Err(failure) => {
                output.write(&Err(failure))?;
            }
        }
    }
    Ok(Exit::DONE)
}

/// Carries a command out, unless Ctrl-C is pressed before it is done.
fn run_until_interrupted<Out: Write, Notes: Write>(
    runtime: &Runtime,
    session: &Session,
    command: Command,
    output: &mut Output<Out, Notes>,
) -> io::Result<Result<Answer, Failure>> {
    let (op, writes, is_watch) = (command.op(), command.writes(), matches!(command, Command::Watch { .. }));
    runtime.block_on(async {
        // Where lines cannot be edited, Ctrl-C was a signal also while the line was typed. The runtime hears of it only
        // now, and this command is not meant.
        tokio::task::yield_now().await;
        tokio::select! {
            result = execute::to_output(session, command, output) => result,
            // To end a watch so is no failure.
            _ = tokio::signal::ctrl_c() => Ok(if is_watch {
                Ok(Answer::Told)
            } else {
                Err(Failure {
                    maybe_applied: writes.then_some(true),
                    ..Failure::unsent(op, writes, FailureKind::Timeout, "given up")
                })
            }),
        }
    })
}

fn editor(history: Option<&PathBuf>) -> io::Result<Editor<Completion, FileHistory>> {
    let config = rustyline::Config::builder()
        .max_history_size(HISTORY_LINES)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(io::Error::other)?
        .history_ignore_space(true)
        .auto_add_history(true)
        .completion_type(rustyline::CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
    editor.set_helper(Some(Completion));
    if let Some(history) = history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    Ok(editor)
}

/// `$XDG_STATE_HOME/raftctl/history`, or `~/.local/state/raftctl/history`; its directory is made if need be.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("raftctl");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

/// Completes names of commands, their flags, and the words that begin their usage.
#[derive(Helper, Hinter, Highlighter, Validator)]
struct Completion;

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, names) = candidates(line.get(..position).unwrap_or(line));
        let pair = |name: &str| Pair { display: name.to_owned(), replacement: format!("{name} ") };
        Ok((start, names.into_iter().map(pair).collect()))
    }
}

/// Where the word under the cursor begins, and what it may become.
fn candidates(line: &str) -> (usize, Vec<&'static str>) {
    let start = line.rfind([' ', '\t']).map_or(0, |at| at + 1);
    let (before, word) = line.split_at_checked(start).unwrap_or(("", line));
    let available = || COMMANDS.iter().map(|spec| spec.name);
    let mut earlier = before.split_whitespace();
    let names: Vec<&'static str> = match (earlier.next(), earlier.next()) {
        (None, _) => available().chain(["exit"]).collect(),
        (Some("help"), None) => available().collect(),
        (Some(command), _) if word.starts_with('-') => {
            let flags = table::find(command).map_or(&[][..], |spec| spec.flags);
            flags.iter().map(|flag| flag.name).collect()
        }
        (Some(command), None) => table::find(command).into_iter().flat_map(|spec| spec.subcommands()).collect(),
        (Some(_), Some(_)) => Vec::new(),
    };
    (start, names.into_iter().filter(|name| name.starts_with(word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_a_command() {
        assert_eq!(candidates("s"), (0, vec!["set", "scan", "status"]));
        assert_eq!(candidates("  st"), (2, vec!["status"]));
        assert_eq!(candidates("ex"), (0, vec!["exit"]));
        assert_eq!(candidates("wat"), (0, vec!["watch"]));
    }

    #[test]
    fn later_words_are_flags_or_topics_of_help() {
        assert_eq!(candidates("scan p --"), (7, vec!["--limit", "--from", "--keys", "--rev"]));
        assert_eq!(candidates("set k v --"), (8, vec!["--if-absent", "--ttl", "--lease"]));
        assert_eq!(candidates("help st"), (5, vec!["status"]));
        assert_eq!(candidates("get k"), (4, vec![]));
        assert_eq!(candidates("leader t"), (7, vec!["transfer"]));
        assert_eq!(candidates("member p"), (7, vec!["promote"]));
        assert_eq!(candidates("member add 4=h:1 --"), (17, vec!["--wait"]));
        assert_eq!(candidates("leader transfer t"), (16, vec![]));
        assert_eq!(candidates("nonsense --x"), (9, vec![]));
    }
}
