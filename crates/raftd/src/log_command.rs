//! `raftd log`.

use crate::cli::LogFlags;
use crate::exit::RunError;

pub(crate) fn run(flags: &LogFlags) -> Result<(), RunError> {
    let _ = flags;
    Err(RunError::Usage("not available yet".to_owned()))
}
