//! `raftd log`: the entries of a stopped node's log, one a line.
//!
//! ```text
//! index=1 term=1 stamp=0 kind=noop
//! index=2 term=1 stamp=51200813 kind=command client=5b6f01c2 sequence=1 op=set key="a" value="1" if_absent=false
//! index=3 term=1 stamp=51912003 kind=configuration voters 1 2 members=1=10.0.0.1:7001/DISK,2=10.0.0.2:7001/DISK
//! ```
//! Stamps are cluster time in nanoseconds (rule 6).

use std::fmt;
use std::io::{self, Write};

use raft_core::{Configuration, Entry, LogIndex, Payload};

use crate::cli::LogFlags;
use crate::command_text::CommandText;
use crate::exit::RunError;
use crate::offline::Stopped;
use crate::output::{note, to_stdout};

/// Prints the entries that `flags` ask for.
pub(crate) fn run(flags: &LogFlags) -> Result<(), RunError> {
    if let Some(to) = flags.to.filter(|to| *to < flags.from) {
        return Err(RunError::Usage(format!("--to {to} is before --from {}", flags.from)));
    }
    let stopped = Stopped::read(&flags.data_dir)?;
    let (last, contents) = (stopped.last_index(), stopped.contents);
    if let Some(snapshot) = contents.snapshot.filter(|_| flags.from <= contents.base.index.0) {
        let (base, covered) = (contents.base.index, snapshot.last.index);
        note(format_args!(
            "the entries up to index {base} are gone; a snapshot of the state at {covered} replaced them"
        ));
    }
    if flags.from > last.0 {
        note(format_args!("the log ends at index {last}"));
    } else {
        note(format_args!("the log ends at index {last}; its last entries may not be committed"));
    }
    let wanted = LogIndex(flags.from)..=LogIndex(flags.to.unwrap_or(u64::MAX));
    to_stdout(|output| {
        print_entries(output, contents.entries.iter().filter(|entry| wanted.contains(&entry.position.index)))
    })
}

fn print_entries<'a>(output: &mut dyn Write, entries: impl Iterator<Item = &'a Entry>) -> io::Result<()> {
    for entry in entries {
        writeln!(output, "{}", EntryText(entry))?;
    }
    Ok(())
}

/// An entry as a line.
struct EntryText<'a>(&'a Entry);

impl fmt::Display for EntryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { position, stamp, payload } = self.0;
        write!(f, "index={} term={} stamp={} kind=", position.index, position.term, stamp.0)?;
        match payload {
            Payload::Noop => f.write_str("noop"),
            Payload::Command(bytes) => write!(f, "command {}", CommandText(bytes)),
            Payload::Configuration(configuration) => {
                write!(f, "configuration {configuration} {}", Members(configuration))
            }
        }
    }
}

/// `members=1=10.0.0.1:7001/DISK,2=..`
struct Members<'a>(&'a Configuration);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.0.members();
        let members: Vec<String> = members
            .map(|(id, member)| format!("{}={}/{}", id.as_u64(), member.address.escape_debug(), member.disk))
            .collect();
        write!(f, "members={}", members.join(","))
    }
}
