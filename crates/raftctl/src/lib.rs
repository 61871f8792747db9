//! The client a person uses: one-shot commands, scripts, and a REPL.
//!
//! The way of a command: words ([`words`]) → the table of commands ([`table`]) → a typed command ([`parse`], [`command`]) →
//! the cluster ([`execute`]) → a typed answer ([`answer`]) or failure ([`failure`]) → JSON or text ([`output`], [`text`]).
//! Words come from the process's arguments, from a line of a script ([`script`]) or from the REPL ([`repl`]); behind the
//! first arrow nobody can tell which.
//!
//! The contract is section 6 of the design: field names and their order, classes of failures, exit codes. The tests of
//! `answer` and `failure` restate it literally.

pub mod answer;
pub mod bench;
mod build;
pub mod command;
pub mod execute;
pub mod failure;
pub mod flags;
pub mod help;
pub mod output;
pub mod parse;
pub mod repl;
mod run;
pub mod script;
pub mod table;
pub mod text;
pub mod txn;
pub mod words;

pub use run::run;
