//! The client, as a person or a script uses it: one process a command, or one for a whole script.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::programs::programs;

/// How `raftctl` is to be run.
#[derive(Clone, Debug)]
pub struct Ctl {
    flags: Vec<String>,
}

/// What one run of `raftctl` gave.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The answer, which is exactly one line of JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.stdout);
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "not one line: {self:?}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer to a command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn done(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Ctl {
    /// Answers as JSON, from `endpoints` (`HOST:PORT,..`), within 10 s.
    pub fn new(endpoints: &str) -> Self {
        Self { flags: Vec::new() }.with("--endpoints", endpoints).with("--output", "json").with("--timeout", "10s")
    }

    /// The same with `flag` set to `value`; replaces what it was.
    #[must_use]
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        if let Some(place) = self.flags.iter().position(|known| known == flag) {
            self.flags.drain(place..=place + 1);
        }
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// The same with a flag that takes no value.
    #[must_use]
    pub fn with_switch(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Runs one command.
    ///
    /// # Panics
    /// If `raftctl` cannot be run.
    pub fn run(&self, words: &[&str]) -> Answer {
        self.run_with_input(words, b"")
    }

    /// Runs one command, or with no words a script, with `input` on standard input.
    ///
    /// # Panics
    /// If `raftctl` cannot be run.
    pub fn run_with_input(&self, words: &[&str], input: &[u8]) -> Answer {
        let mut child = self.command(words).spawn().expect("raftctl was built and can be executed");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let output = std::thread::scope(|scope| {
            // Not read to its end by a command that fails early: a broken pipe is its right.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("the child is ours")
        });
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr }
    }

    /// Starts script mode: one line a command, one line an answer.
    ///
    /// # Panics
    /// If `raftctl` cannot be run.
    pub fn script(&self) -> Script {
        let mut child = self.command(&[]).spawn().expect("raftctl was built and can be executed");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Script { child, input, output }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&programs().raftctl);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("RAFTCTL_")) {
                command.env_remove(name);
            }
        }
        command.args(&self.flags).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A script under way.
#[derive(Debug)]
pub struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Sends one command and reads its answer.
    ///
    /// # Panics
    /// If the script ended, or answers with something else than a line of JSON.
    pub fn ask(&mut self, line: &str) -> Value {
        let input = self.input.as_mut().expect("only `finish` closes the input");
        input.write_all(format!("{line}\n").as_bytes()).expect("the script takes commands until its input ends");
        self.next()
    }

    /// Reads one more line, of a command that answers with many.
    ///
    /// # Panics
    /// As [`Self::ask`].
    #[expect(clippy::should_implement_trait, reason = "a script is no iterator: it never knows whether there is more")]
    pub fn next(&mut self) -> Value {
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("answers are UTF-8");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in the answer {answer:?}"))
    }

    /// Ends the input and returns the exit code.
    ///
    /// # Panics
    /// If answers are left that nobody asked for.
    pub fn finish(mut self) -> i32 {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("answers are UTF-8");
        assert_eq!(rest, "", "an answer without a question");
        self.child.wait().expect("the child is ours").code().unwrap_or(-1)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // After `finish` it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
