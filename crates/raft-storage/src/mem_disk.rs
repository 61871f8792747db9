//! A disk in memory that forgets what was not synced: for tests and simulators, never for a server.
//!
//! It is as unkind as a disk may be. Of each 512-byte sector, file size and directory entry that was changed since its
//! last sync, a [`MemDisk::crash`] keeps the durable version or any later one, as the caller's chooser decides, each by
//! itself: a rename may lose both names, a file may have its new sectors and its old size. After a failed sync the
//! changes count as clean, as on Linux (F1): no later sync makes them durable, and a crash may still take them.
//!
//! Clones share one disk: a test keeps one to crash and damage what a [`crate::Storage`] uses.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::{SECTOR, SECTOR_BYTES};

/// The disk. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// Something that was changed since it was last synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// One sector of a file.
    Sector {
        /// The file's name (its last one, if it has none now).
        file: String,
        /// Which sector, counted from 0.
        sector: u64,
    },
    /// A file's size.
    Size {
        /// The file's name.
        file: String,
    },
    /// Whether a name is there, and which file it names.
    Name {
        /// The name.
        name: String,
    },
}

/// One of the changing calls, for [`MemDisk::fail_at`] to count.
#[derive(Debug)]
struct Fault {
    /// How many changing calls go well before.
    calls_before: u64,
    has_struck: bool,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    fault: Option<Fault>,
    /// How many bytes its files may have together; without one as many as they like.
    capacity: Option<u64>,
    calls: u64,
    syncs: u64,
}

/// A file: its bytes now, its durable bytes, and for what differs all versions since the last sync, oldest first.
#[derive(Clone, Debug, Default)]
struct FileState {
    last_name: String,
    now: Vec<u8>,
    durable: Vec<u8>,
    sectors: BTreeMap<u64, Vec<[u8; SECTOR_BYTES]>>,
    /// What a failed sync left behind: no later sync covers it, unless it is written again.
    limbo: BTreeMap<u64, Vec<[u8; SECTOR_BYTES]>>,
    sizes: Vec<usize>,
    /// Space that the file takes without holding anything there, in bytes.
    reserved: u64,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power. For each unsynced thing `choose` is told how many versions there are since the last sync, and
    /// says how many of them reached the disk: 0 keeps the durable one.
    pub fn crash(&self, mut choose: impl FnMut(&Unsynced, usize) -> usize) {
        let mut state = self.lock();
        state.fault = None;
        state.crash_names(&mut choose);
        let named: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| named.contains(id));
        for file in state.files.values_mut() {
            file.crash(&mut choose);
        }
    }

    /// Lets `calls` changing calls (write, reserve, sync, create, rename, remove) go well, and all after them fail, until the
    /// next crash or [`MemDisk::heal`]. The failing write may arrive in part.
    pub fn fail_after(&self, calls: u64) {
        self.lock().fault = Some(Fault { calls_before: calls, has_struck: false });
    }

    /// Ends what [`MemDisk::fail_after`] began. Whether it had struck.
    pub fn heal(&self) -> bool {
        self.lock().fault.take().is_some_and(|fault| fault.has_struck)
    }

    /// Lets its files have `bytes` bytes together at most, or as many as they like. What would make them larger fails, and a
    /// write arrives as far as there is room; on a full disk no file can be created. Files that have more already keep it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How many bytes its files have together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// How many changing calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many syncs of files there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The bytes of a file; `None` if there is none.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let id = state.names.get(name)?;
        state.files.get(id).map(|file| file.now.clone())
    }

    /// Puts a file there, durably, in place of what was there: damage, or a disk of another time.
    pub fn set_contents(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = state.new_file(name);
        state.durable_names.insert(name.to_owned(), id);
        if let Some(file) = state.files.get_mut(&id) {
            file.durable.clone_from(&bytes);
            file.now = bytes;
            file.sizes.clear();
        }
    }

    /// Takes a file away, durably.
    pub fn lose(&self, name: &str) {
        let mut state = self.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    /// Another disk with the same files, all of them durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let names: Vec<String> = self.lock().names.keys().cloned().collect();
        for name in names {
            if let Some(bytes) = self.contents(&name) {
                copy.set_contents(&name, bytes);
            }
        }
        copy
    }

    /// What another disk would hold after a crash that kept nothing unsynced; this one goes on.
    #[must_use]
    pub fn copy_after_crash(&self) -> Self {
        let copy = Self::new();
        let state = self.lock();
        for (name, id) in &state.durable_names {
            if let Some(file) = state.files.get(id) {
                copy.set_contents(name, file.durable.clone());
            }
        }
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test must not hide behind another one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new_file(&mut self, name: &str) -> u64 {
        self.next_file += 1;
        let file = FileState { last_name: name.to_owned(), ..FileState::default() };
        self.files.insert(self.next_file, file);
        self.names.insert(name.to_owned(), self.next_file);
        self.next_file
    }

    /// Counts a changing call; an error if it is one that fails.
    fn count_call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match &mut self.fault {
            Some(fault) if fault.calls_before == 0 => {
                fault.has_struck = true;
                Err(io::Error::other("injected fault"))
            }
            Some(fault) => {
                fault.calls_before -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(FileState::size_bytes).sum()
    }

    /// How many bytes more its files may have.
    fn free_bytes(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn crash_names(&mut self, choose: &mut impl FnMut(&Unsynced, usize) -> usize) {
        let mut all: Vec<String> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        all.sort();
        all.dedup();
        for name in all {
            let (now, durable) = (self.names.get(&name).copied(), self.durable_names.get(&name).copied());
            if now == durable || choose(&Unsynced::Name { name: name.clone() }, 1) > 0 {
                continue;
            }
            match durable {
                Some(id) => self.names.insert(name, id),
                None => self.names.remove(&name),
            };
        }
        self.durable_names = self.names.clone();
    }
}

impl FileState {
    /// The space it takes.
    fn size_bytes(&self) -> u64 {
        (self.now.len() as u64).max(self.reserved)
    }

    fn crash(&mut self, choose: &mut impl FnMut(&Unsynced, usize) -> usize) {
        let sizes = std::mem::take(&mut self.sizes);
        let mut size = self.durable.len();
        if !sizes.is_empty() {
            let kept = choose(&Unsynced::Size { file: self.last_name.clone() }, sizes.len());
            size = kept.checked_sub(1).and_then(|last| sizes.get(last)).copied().unwrap_or(size);
        }
        let mut after = self.durable.clone();
        self.leave_in_limbo();
        for (sector, versions) in std::mem::take(&mut self.limbo) {
            let kept = choose(&Unsynced::Sector { file: self.last_name.clone(), sector }, versions.len());
            if let Some(version) = kept.checked_sub(1).and_then(|last| versions.get(last)) {
                write_into(&mut after, sector * SECTOR, version);
            }
        }
        after.resize(size, 0);
        self.now.clone_from(&after);
        self.durable = after;
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let size_before = self.now.len();
        write_into(&mut self.now, offset, bytes);
        if self.now.len() != size_before {
            self.sizes.push(self.now.len());
        }
        let last = (offset + bytes.len() as u64).div_ceil(SECTOR);
        for sector in offset / SECTOR..last {
            let version = read_sector(&self.now, sector);
            let earlier = self.limbo.remove(&sector).unwrap_or_default();
            self.sectors.entry(sector).or_insert(earlier).push(version);
        }
    }

    fn sync(&mut self) {
        for (&sector, versions) in &self.sectors {
            if let Some(version) = versions.last() {
                write_into(&mut self.durable, sector * SECTOR, version);
            }
        }
        self.durable.resize(self.now.len(), 0);
        self.sectors.clear();
        self.sizes.clear();
    }

    /// No sector is in both: a write takes it out of limbo.
    fn leave_in_limbo(&mut self) {
        self.limbo.append(&mut self.sectors);
    }
}

fn write_into(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).expect("a file in memory");
    let end = start + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target.get_mut(start..end).expect("just resized").copy_from_slice(bytes);
}

fn read_sector(bytes: &[u8], sector: u64) -> [u8; SECTOR_BYTES] {
    let start = usize::try_from(sector * SECTOR).expect("a file in memory");
    let mut copy = [0; SECTOR_BYTES];
    let present = bytes.get(start..bytes.len().min(start + SECTOR_BYTES)).unwrap_or_default();
    copy.iter_mut().zip(present).for_each(|(to, from)| *to = *from);
    copy
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&mut self, name: &str) -> io::Result<Option<MemFile>> {
        let id = self.lock().names.get(name).copied();
        Ok(id.map(|id| MemFile { disk: self.clone(), id }))
    }

    fn create(&mut self, name: &str) -> io::Result<MemFile> {
        let mut state = self.lock();
        state.count_call()?;
        if state.free_bytes() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.new_file(name);
        drop(state);
        Ok(MemFile { disk: self.clone(), id })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.count_call()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        if let Some(file) = state.files.get_mut(&id) {
            to.clone_into(&mut file.last_name);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.count_call()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.lock();
        state.count_call()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        if name.is_empty() { "memory".to_owned() } else { format!("memory/{name}") }
    }
}

/// An open file of a [`MemDisk`].
#[derive(Debug)]
pub struct MemFile {
    disk: MemDisk,
    id: u64,
}

impl MemFile {
    fn gone() -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, "the file did not survive the crash")
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.lock();
        let file = state.files.get(&self.id).ok_or_else(Self::gone)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = file.now.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let outcome = state.count_call();
        let free_bytes = state.free_bytes();
        let file = state.files.get_mut(&self.id).ok_or_else(Self::gone)?;
        let room_bytes = file.size_bytes().saturating_add(free_bytes).saturating_sub(offset);
        let room_bytes = usize::try_from(room_bytes).unwrap_or(usize::MAX);
        let (arrived, outcome) = match outcome {
            Ok(()) if bytes.len() <= room_bytes => (bytes.len(), Ok(())),
            Ok(()) => (room_bytes, Err(io::ErrorKind::StorageFull.into())),
            Err(error) => (bytes.len() / 2, Err(error)),
        };
        // A write that fails has written some of it; whole sectors, since the page cache takes no less.
        let arrived = if outcome.is_ok() { arrived } else { arrived / SECTOR_BYTES * SECTOR_BYTES };
        file.write(offset, bytes.get(..arrived).unwrap_or_default());
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        let file = state.files.get(&self.id).ok_or_else(Self::gone)?;
        Ok(file.now.len() as u64)
    }

    fn reserve(&mut self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.count_call()?;
        let free_bytes = state.free_bytes();
        let file = state.files.get_mut(&self.id).ok_or_else(Self::gone)?;
        if size_bytes > file.size_bytes().saturating_add(free_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.reserved = size_bytes;
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.syncs += 1;
        let outcome = state.count_call();
        let file = state.files.get_mut(&self.id).ok_or_else(Self::gone)?;
        match outcome {
            Ok(()) => file.sync(),
            // The kernel marks the pages clean and drops them when it likes.
            Err(_) => file.leave_in_limbo(),
        }
        outcome
    }
}
