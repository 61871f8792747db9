//! The running server.

use crate::config::Config;
use crate::exit::RunError;

/// Serves until it is told to stop.
///
/// # Errors
/// Whatever ends the process otherwise.
pub fn run(config: Config) -> Result<(), RunError> {
    let _ = config;
    Err(RunError::Usage("the server is not built yet".to_owned()))
}
