//! The trace of a run, in the words of the protocol scripts: `n1@2 → n3 AppendEntries prev=4@1 [5@2] commit=4`.
//!
//! Every run keeps a digest of what happened, so that two runs can be compared. The lines themselves are made only if
//! somebody wants to read them.

use crate::time::{SECONDS, Time};

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    digest: u64,
    /// How many events there were.
    pub(crate) events: u64,
}

impl Trace {
    pub(crate) const fn new(keeps_lines: bool) -> Self {
        Self { lines: if keeps_lines { Some(Vec::new()) } else { None }, digest: 0xcbf2_9ce4_8422_2325, events: 0 }
    }

    /// Takes a number that must be the same in a second run.
    pub(crate) const fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    /// Adds a line, if lines are kept.
    pub(crate) fn line(&mut self, now: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>4}.{:06} {}", now / SECONDS, now % SECONDS / 1_000, line()));
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
