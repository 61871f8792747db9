//! Commands of the key-value store as words on a line.

use std::fmt;

use crate::output::Shortened;

/// The bytes of a command entry.
pub(crate) struct CommandText<'a>(pub(crate) &'a [u8]);

impl fmt::Display for CommandText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shortened { name: "payload", bytes: self.0 })
    }
}
