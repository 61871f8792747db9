//! Simulated time: nanoseconds since the run began, as seen by nobody but the simulator.

/// A moment.
pub(crate) type Time = u64;

/// One millisecond.
pub(crate) const MILLIS: u64 = 1_000_000;
/// One second.
pub(crate) const SECONDS: u64 = 1_000_000_000;
