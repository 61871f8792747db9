//! What goes to the disk (rule 1).

use alloc::vec::Vec;
use core::fmt;

use crate::message::write_spaced;
use crate::types::{Entry, HardState, LogIndex, LogPosition};

/// The number of a [`Write`]: rising by one, from 1, within an incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

/// One write to the log and the hard state. The disk takes writes in order of their numbers; `Persisted(n)` confirms
/// write n and all before it. A disk may merge waiting writes into one batch.
///
/// Within one write (and one batch) the order of effect is: hard state, then restart, then truncation, then entries. A hard state
/// that reached the disk without its entries is harmless; entries of a term the hard state does not know are not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Its number.
    pub number: WriteNumber,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Forget all entries: the log goes on after this position, which a durable snapshot covers (§5.1).
    pub restart_after: Option<LogPosition>,
    /// Forget the entry at this index and all after it, before appending.
    pub truncate_from: Option<LogIndex>,
    /// New entries, consecutive, right after the log's end (as truncated).
    pub entries: Vec<Entry>,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write #{}", self.number.0)?;
        if let Some(hard_state) = self.hard_state {
            write!(f, " term={}", hard_state.term)?;
            if let Some(chosen) = hard_state.voted_for {
                write!(f, " vote={chosen}")?;
            }
        }
        if let Some(base) = self.restart_after {
            write!(f, " restart after {base}")?;
        }
        if let Some(from) = self.truncate_from {
            write!(f, " truncate from {from}")?;
        }
        if !self.entries.is_empty() {
            f.write_str(" [")?;
            write_spaced(f, &self.entries)?;
            f.write_str("]")?;
        }
        Ok(())
    }
}
