//! A disk in memory ([`MemDisk`]) that may, once, read another sector than it was asked for (F12).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft_storage::mem_disk::MemFile;
use raft_storage::{Disk, DiskFile, MemDisk};

/// Sectors are read whole.
const SECTOR_BYTES: u64 = 512;

/// The disk of one start of a server.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    inner: MemDisk,
    misdirected: Misdirected,
}

/// Counts down to the read that goes to the wrong place; 0: none will.
#[derive(Clone, Debug, Default)]
pub(crate) struct Misdirected(Arc<AtomicU64>);

impl Misdirected {
    /// The `nth` read, counted from 1, is misdirected.
    pub(crate) fn at(nth: u64) -> Self {
        Self(Arc::new(AtomicU64::new(nth)))
    }

    fn is_now(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 1
    }

    /// Whether it is over, or was never to be.
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// The start is over: what reads later reads right.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl SimDisk {
    pub(crate) const fn new(inner: MemDisk, misdirected: Misdirected) -> Self {
        Self { inner, misdirected }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&mut self, name: &str) -> io::Result<Option<SimFile>> {
        let file = self.inner.open(name)?;
        Ok(file.map(|inner| SimFile { inner, misdirected: self.misdirected.clone() }))
    }

    fn create(&mut self, name: &str) -> io::Result<SimFile> {
        Ok(SimFile { inner: self.inner.create(name)?, misdirected: self.misdirected.clone() })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub(crate) struct SimFile {
    inner: MemFile,
    misdirected: Misdirected,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)?;
        let size_bytes = self.inner.len()?;
        if size_bytes >= 2 * SECTOR_BYTES && !buffer.is_empty() && self.misdirected.is_now() {
            // One sector of what was wanted comes from its neighbour.
            let from =
                if offset + 2 * SECTOR_BYTES <= size_bytes { offset + SECTOR_BYTES } else { offset - SECTOR_BYTES };
            let end = buffer.len().min(512);
            if let Some(sector) = buffer.get_mut(..end) {
                self.inner.read_at(from, sector)?;
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn reserve(&mut self, size_bytes: u64) -> io::Result<()> {
        self.inner.reserve(size_bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.inner.sync_data()
    }
}
