//! `raftd replay`: the state at an index of a stopped node's log, by playing the log back into an empty store.
//!
//! ```text
//! index=5 term=2 revision=3 keys=2 hash=8f0c..
//! key="a" value="1" create_revision=1 mod_revision=1 version=1
//! ```
//! `get` adds one line (`found=false key=".."` if there is none), `scan` one a key. `--diff` prints both states and a
//! line for each key that differs, and ends in `equal=true` or `equal=false`.
//!
//! Two nodes with an entry of the same term at an index hold the same log up to there (§3.5, Log Matching), so their
//! states there are equal, or something is wrong. With different terms at least one of the entries is not committed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use kv_store::{Found, Item, KvStore, MAX_KEYS_PER_COMMAND, Query, Stamp};
use raft_core::{LogIndex, LogPosition, Payload};
use raft_storage::Contents;

use crate::cli::{ReplayFlags, Show};
use crate::exit::RunError;
use crate::machine::KvMachine;
use crate::offline::Stopped;
use crate::output::{Quoted, Shortened, note, to_stdout};

/// Prints what `flags` ask for.
pub(crate) fn run(flags: &ReplayFlags) -> Result<(), RunError> {
    let stopped = Stopped::read(&flags.data_dir)?;
    match &flags.diff {
        Some(other) => {
            let other_stopped = Stopped::read(other)?;
            let common = stopped.last_index().min(other_stopped.last_index());
            let to = chosen_index(flags.to, common);
            let ours = State::replay(&flags.data_dir, stopped, to)?;
            let theirs = State::replay(other, other_stopped, to)?;
            if ours.position.term != theirs.position.term {
                note(format_args!(
                    "the entries at index {to} are of different terms: at least one of them is not committed"
                ));
            }
            to_stdout(|output| print_difference(output, [&ours, &theirs]))
        }
        None => {
            let to = chosen_index(flags.to, stopped.last_index());
            let state = State::replay(&flags.data_dir, stopped, to)?;
            to_stdout(|output| print_state(output, &state, flags.show.as_ref()))
        }
    }
}

/// The index asked for, else the last one, with the caveat.
fn chosen_index(to: Option<u64>, last: LogIndex) -> LogIndex {
    to.map_or_else(
        || {
            note(format_args!("at index {last}, the last; it may not be committed. Name one that is with --to"));
            last
        },
        LogIndex,
    )
}

/// A store at a position of a log.
struct State<'a> {
    directory: &'a Path,
    position: LogPosition,
    store: KvStore,
}

impl<'a> State<'a> {
    /// Plays the log back up to `to`: from its beginning, or from the snapshot that replaced that.
    fn replay(directory: &'a Path, mut stopped: Stopped, to: LogIndex) -> Result<Self, RunError> {
        let last = stopped.last_index();
        if to > last {
            let directory = directory.display();
            return Err(RunError::Usage(format!(
                "--to {to} is beyond the log in {directory}, which ends at index {last}"
            )));
        }
        let mut state = Self::beginning(directory, &mut stopped, to)?;
        let after = state.position.index;
        let entries = stopped.contents.entries.into_iter().filter(|entry| entry.position.index > after);
        for entry in entries.take_while(|entry| entry.position.index <= to) {
            state.position = entry.position;
            match entry.payload {
                // What the store refuses, it refused when it was live: the reply went to the client, and changed nothing.
                Payload::Command(command) => {
                    let _ = state.store.apply(entry.position.index.0, Stamp(entry.stamp.0), &command);
                }
                Payload::Noop | Payload::Configuration(_) => {}
            }
        }
        Ok(state)
    }

    /// The state to play from.
    fn beginning(directory: &'a Path, stopped: &mut Stopped, to: LogIndex) -> Result<Self, RunError> {
        let Contents { snapshot, base, .. } = &stopped.contents;
        let snapshot = snapshot.as_ref().map(|snapshot| snapshot.last);
        match snapshot {
            Some(last) if to >= last.index => {
                let machine: KvMachine = stopped.snapshots.restore(last).map_err(RunError::damaged)?;
                Ok(Self { directory, position: last, store: machine.into_store() })
            }
            Some(last) if *base != LogPosition::ORIGIN => {
                let (directory, first) = (directory.display(), last.index);
                Err(RunError::Usage(format!(
                    "--to {to} is before the snapshot at index {first} in {directory}, which replaced what led to it; \
                     ask for --to {first} or later"
                )))
            }
            Some(_) | None => Ok(Self { directory, position: LogPosition::ORIGIN, store: KvStore::default() }),
        }
    }

    /// All items whose keys begin with `prefix`, page by page.
    fn items(&self, prefix: &[u8]) -> impl Iterator<Item = Item> {
        let prefix = Bytes::copy_from_slice(prefix);
        let mut page = VecDeque::new();
        // Where the next page begins; `None` after the last.
        let mut next = Some(prefix.clone());
        std::iter::from_fn(move || {
            while page.is_empty() {
                let from = Some(next.take()?);
                let query = Query::Scan { prefix: prefix.clone(), from, limit: PAGE_KEYS, keys_only: false };
                if let Found::Items { items, next: after } = self.store.query(&query).found {
                    (page, next) = (items.into(), after);
                }
            }
            page.pop_front()
        })
    }
}

/// As many keys as the store gives at once.
const PAGE_KEYS: u32 = MAX_KEYS_PER_COMMAND as u32;

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, store, directory: _ } = self;
        write!(f, "index={} term={} revision={} ", position.index, position.term, store.revision())?;
        write!(f, "keys={} hash={}", store.key_count(), store.state_hash())
    }
}

fn print_state(output: &mut dyn Write, state: &State<'_>, show: Option<&Show>) -> io::Result<()> {
    writeln!(output, "{state}")?;
    match show {
        None => Ok(()),
        Some(Show::Get { key }) => print_value(output, state, key),
        Some(Show::Scan { prefix }) => {
            state.items(prefix.as_bytes()).try_for_each(|item| writeln!(output, "{}", ItemText(&item)))
        }
    }
}

fn print_value(output: &mut dyn Write, state: &State<'_>, key: &OsStr) -> io::Result<()> {
    let query = Query::Get { key: Bytes::copy_from_slice(key.as_bytes()) };
    match state.store.query(&query).found {
        Found::Value(Some(item)) => writeln!(output, "found=true {}", ItemText(&item)),
        Found::Value(None) | Found::Items { .. } | Found::Leases { .. } => {
            writeln!(output, "found=false key={}", Quoted(key.as_bytes()))
        }
    }
}

/// A key with its whole value and metadata.
struct ItemText<'a>(&'a Item);

impl fmt::Display for ItemText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Item { key, value, create_revision, mod_revision, version } = self.0;
        write!(f, "key={} value={} ", Quoted(key), Quoted(value))?;
        write!(f, "create_revision={create_revision} mod_revision={mod_revision} version={version}")
    }
}

fn print_difference(output: &mut dyn Write, states: [&State<'_>; 2]) -> io::Result<()> {
    for (number, state) in (1..).zip(states) {
        writeln!(output, "dir={number} path={} {state}", Quoted(state.directory.as_os_str().as_bytes()))?;
    }
    let [ours, theirs] = states;
    let mut is_equal = ours.store.state_hash() == theirs.store.state_hash();
    let pairs = Pairs { ours: ours.items(b"").peekable(), theirs: theirs.items(b"").peekable() };
    for (ours, theirs) in pairs.filter(|(ours, theirs)| ours != theirs) {
        is_equal = false;
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => writeln!(
                output,
                "key={} {} mod_revision_1={} {} mod_revision_2={}",
                Quoted(&ours.key),
                Shortened { name: "value_1", bytes: &ours.value },
                ours.mod_revision,
                Shortened { name: "value_2", bytes: &theirs.value },
                theirs.mod_revision
            )?,
            (Some(ours), None) => writeln!(output, "only_in=1 {}", ItemText(&ours))?,
            (None, Some(theirs)) => writeln!(output, "only_in=2 {}", ItemText(&theirs))?,
            (None, None) => {}
        }
    }
    writeln!(output, "equal={is_equal}")
}

/// Two ordered sequences of items, key by key.
struct Pairs<A: Iterator<Item = Item>, B: Iterator<Item = Item>> {
    ours: Peekable<A>,
    theirs: Peekable<B>,
}

impl<A: Iterator<Item = Item>, B: Iterator<Item = Item>> Iterator for Pairs<A, B> {
    type Item = (Option<Item>, Option<Item>);

    fn next(&mut self) -> Option<Self::Item> {
        let least = match (self.ours.peek(), self.theirs.peek()) {
            (Some(ours), Some(theirs)) => Ord::min(&ours.key, &theirs.key),
            (Some(item), None) | (None, Some(item)) => &item.key,
            (None, None) => return None,
        };
        let least = least.clone();
        Some((self.ours.next_if(|item| item.key == least), self.theirs.next_if(|item| item.key == least)))
    }
}
