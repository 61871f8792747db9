//! Scripts in, answers out, with a stand-in for the cluster.

use std::collections::BTreeMap;
use std::io::BufReader;

use super::*;
use crate::answer::Value;
use crate::command::ValueSource;
use crate::output::{Form, Terminal};

/// A stand-in that knows `get` and `set`, and fails where the key says so.
#[derive(Default)]
struct Pretend(BTreeMap<Vec<u8>, Vec<u8>>);

impl Pretend {
    fn execute(&mut self, command: Command) -> Result<Answer, Failure> {
        match command {
            Command::Get { key, .. } if key == b"broken" => {
                Err(Failure::unsent("get", false, FailureKind::Timeout, ".."))
            }
            Command::Get { key, raw, .. } => {
                let found = self.0.get(&key).map(|value| Value {
                    value: value.clone(),
                    create_revision: 1,
                    mod_revision: 1,
                    version: 1,
                });
                Ok(Answer::Get { key, found, revision: 1, raw })
            }
            Command::Set { key, value: ValueSource::Given(value), .. } => {
                self.0.insert(key, value);
                Ok(Answer::Set { set: true, revision: 1 })
            }
            Command::Set { value: ValueSource::StandardInput, .. }
            | Command::Delete { .. }
            | Command::DeletePrefix { .. }
            | Command::CompareAndSwap { .. }
            | Command::Increment { .. }
            | Command::Scan { .. }
            | Command::Transact(_)
            | Command::Watch { .. }
            | Command::GrantLease { .. }
            | Command::KeepAlive { .. }
            | Command::RevokeLease { .. }
            | Command::Leases
            | Command::Status
            | Command::TransferLeadership { .. }
            | Command::Members
            | Command::ChangeMembers { .. }
            | Command::Hash { .. }
            | Command::Bench(_)
            | Command::Help { .. } => panic!("the scripts here have no such command"),
        }
    }
}

fn answers(script: &[u8], keep_going: bool) -> (Vec<String>, Exit) {
    let mut out = Vec::new();
    let mut output = Output::new(Form::Json, Terminal::default(), &mut out, io::sink());
    let mut pretend = Pretend::default();
    // A small buffer, so that lines come in pieces.
    let input = BufReader::with_capacity(7, script);
    let exit = run(input, keep_going, &mut output, |command, _| Ok(pretend.execute(command))).unwrap();
    (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), exit)
}

const SET: &str = r#"{"ok":true,"op":"set","set":true,"revision":1}"#;

fn got(value: &str) -> String {
    format!(
        r#"{{"ok":true,"op":"get","found":true,"key":"a","value":"{value}","create_revision":1,"mod_revision":1,"version":1,"revision":1}}"#
    )
}

#[test]
fn answers_come_in_order_and_blank_lines_and_comments_have_none() {
    let (lines, exit) = answers(b"# a script\n\n  \t\n  # indented\nset a 1\nget a\n", false);
    assert_eq!((lines, exit), (vec![SET.to_owned(), got("1")], Exit::DONE));
}

#[test]
fn line_ends_of_any_kind_are_understood() {
    let (lines, _) = answers(b"set a 1\r\n\r\nget a", false);
    assert_eq!(lines, [SET.to_owned(), got("1")]);
    let (lines, _) = answers(b"set a $'1\\r'\r\nget a\r\n", false);
    assert_eq!(lines, [SET.to_owned(), got("1\\r")]);
    assert_eq!(answers(b"", false), (vec![], Exit::DONE));
}

#[test]
fn it_stops_at_the_first_failure_unless_told_to_go_on() {
    let script = b"get absent\nget broken\nfrob\nset a 1\n";
    let (lines, exit) = answers(script, false);
    assert_eq!((lines.len(), exit), (2, Exit(4)));
    let (lines, exit) = answers(script, true);
    assert_eq!((lines.len(), exit), (4, Exit(4)));
    assert!(lines[2].starts_with(r#"{"ok":false,"op":"frob","error":"usage","message":"unknown command frob"#));
}

#[test]
fn a_negative_answer_is_no_failure() {
    let (lines, exit) = answers(b"get absent\nset a 1\n", false);
    assert_eq!((lines.len(), exit), (2, Exit::DONE));
}

#[test]
fn what_needs_standard_input_or_output_for_itself_is_refused() {
    for line in ["set k -", "get k --raw"] {
        let (lines, exit) = answers(line.as_bytes(), false);
        assert!(lines[0].contains(r#""error":"usage""#), "{lines:?}");
        assert_eq!(exit, Exit::USAGE);
    }
}

#[test]
fn a_line_that_cannot_be_split_names_its_command() {
    let (lines, exit) = answers(b" set a 'b\n", false);
    assert!(lines[0].starts_with(r#"{"ok":false,"op":"set","error":"usage","message":"the ' opened at column 8"#));
    assert!(lines[0].ends_with(r#""maybe_applied":false}"#));
    assert_eq!(exit, Exit::USAGE);
}

#[test]
fn bytes_that_are_no_text_are_data() {
    let (lines, exit) = answers(b"set a \xff\nget a\n", false);
    assert_eq!(exit, Exit::DONE);
    assert!(lines[1].contains(r#""value_b64":"/w==""#), "{lines:?}");
}

#[test]
fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let line_of = |bytes: usize| [b"set a ".as_slice(), &vec![b'x'; bytes - 6]].concat();
    for end in ["\n", "\r\n", ""] {
        let fits = [&line_of(MAX_LINE_BYTES), end.as_bytes()].concat();
        assert_eq!(answers(&fits, false), (vec![SET.to_owned()], Exit::DONE), "{end:?}");
        let too_long = [&line_of(MAX_LINE_BYTES + 1), end.as_bytes(), b"\nget absent"].concat();
        let (lines, exit) = answers(&too_long, true);
        assert!(lines[0].starts_with(r#"{"ok":false,"op":"set","error":"too_large""#), "{lines:?}");
        // The rest of the line is skipped, the next line is read.
        assert_eq!((lines.len(), exit), (2, Exit::USAGE));
    }
}

#[test]
fn of_a_line_without_an_end_only_the_beginning_is_kept() {
    let mut endless = BufReader::new(io::Read::take(io::repeat(b'y'), 64 << 20));
    let line = next_line(&mut endless).unwrap();
    assert_eq!(line, Some(Line::TooLong { beginning: vec![b'y'; BEGINNING_BYTES] }));
    assert_eq!(next_line(&mut endless).unwrap(), None);
}

#[test]
fn a_reader_that_has_left_ends_the_script() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut output = Output::new(Form::Json, Terminal::default(), Gone, io::sink());
    let mut pretend = Pretend::default();
    let error =
        run(&b"set a 1\nset b 2\n"[..], true, &mut output, |command, _| Ok(pretend.execute(command))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(pretend.0.len(), 1);
}
