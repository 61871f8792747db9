//! Real servers for tests: the programs themselves, started on free ports and real disks, and gone when dropped.
//!
//! Nothing here sleeps. To wait is to ask something that blocks until it can answer: a line of a server's output, a
//! client's command with its time-out. Bounds exist so that a broken server fails a test instead of hanging it, and are
//! so wide that no slow machine meets them.
//!
//! A test that fails prints what its servers said and keeps their folder.

pub mod cluster;
pub mod ctl;
pub mod node;
pub mod ports;
pub mod programs;
pub mod stalled;
pub mod stalls;
pub mod workspace;

pub use cluster::Cluster;
pub use ctl::{Answer, Ctl, Script};
pub use node::{Node, Started, raftd};
pub use ports::Ports;
pub use stalled::Stalled;
