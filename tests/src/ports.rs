//! Ports that no other test takes: a `--cluster` list names its ports before anybody listens on them.
//!
//! A block of ports is a locked file in a folder that all checkouts of a user share, so that test processes beside each
//! other (and threads in one) get different ones, and a process that dies gives its ports back. All lie below 32768, from where Linux takes
//! the ports of outgoing connections: a server that is down finds its port free again.

use std::fs::File;
use std::net::TcpListener;

const FIRST_PORT: u16 = 12000;
const LAST_PORT: u16 = 31990;
/// Ports in a block: as many as the largest cluster of any test, with its outsiders.
const BLOCK: u16 = 10;

/// Ports for one test.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    /// Takes a block whose ports are all free now.
    ///
    /// # Panics
    /// If there is none.
    pub fn reserve() -> Self {
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("raftd-test-ports-{user}"));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        for first in (FIRST_PORT..=LAST_PORT).step_by(usize::from(BLOCK)) {
            let path = folder.join(first.to_string());
            let mut options = File::options();
            let lock = options.write(true).create(true).truncate(false).open(path).expect("a lock file can be made");
            if lock.try_lock().is_ok() && (first..first + BLOCK).all(is_free) {
                return Self { first, _lock: lock };
            }
        }
        panic!("no block of {BLOCK} ports is free between {FIRST_PORT} and {LAST_PORT}");
    }

    /// The address of node `id`.
    ///
    /// # Panics
    /// If the block has no such port.
    pub fn address(&self, id: u64) -> String {
        let offset = u16::try_from(id).ok().filter(|offset| *offset < BLOCK).expect("tests have few nodes");
        format!("127.0.0.1:{}", self.first + offset)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_differ_while_both_are_held() {
        let (first, second) = (Ports::reserve(), Ports::reserve());
        assert_ne!(first.address(1), second.address(1));
        assert_ne!(first.address(1), first.address(2));
    }
}
