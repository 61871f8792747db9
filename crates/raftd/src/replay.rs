//! `raftd replay`.

use crate::cli::ReplayFlags;
use crate::exit::RunError;

pub(crate) fn run(flags: &ReplayFlags) -> Result<(), RunError> {
    let _ = flags;
    Err(RunError::Usage("not available yet".to_owned()))
}
