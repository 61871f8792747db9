//! A directory of a real file system, and the lock on it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, cannot_open};

/// The file whose lock is the directory's. It holds the pid of who has it, for the message to the next.
const LOCK_NAME: &str = "LOCK";
/// How many zeros are written at a time.
const ZEROS_BYTES: usize = 1 << 20;

/// A directory, locked for as long as this value or a clone of it lives. Only its owner may read it (0700, files 0600).
#[derive(Clone, Debug)]
pub struct FsDisk {
    directory: PathBuf,
    access: Access,
    _lock: Option<Arc<Lock>>,
}

/// The lock goes with the file handle, whatever ends the process.
#[derive(Debug)]
struct Lock(File);

/// Gives the lock back at once. Closing the file alone would not: a process that another thread is just starting has a
/// copy of the handle until it executes its program.
impl Drop for Lock {
    fn drop(&mut self) {
        // If it fails, closing the file gives it back a moment later.
        let _ = self.0.unlock();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

impl FsDisk {
    /// Opens the directory at `path`, making it (and its parents) if needed, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it; [`OpenError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let directory = path.into();
        create_durably(&directory).map_err(cannot_open("create", shown(&directory)))?;
        let lock_path = directory.join(LOCK_NAME);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(cannot_open("open", shown(&lock_path)))?;
        let lock = take_lock(lock, &directory)?;
        Ok(Self { directory, access: Access::ReadWrite, _lock: Some(Arc::new(Lock(lock))) })
    }

    /// Opens the directory at `path` for [`crate::read_log`]: locks it, and refuses every change.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it; [`OpenError::Io`], also if there is no such directory.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let directory = path.into();
        fs::read_dir(&directory).map_err(cannot_open("read", shown(&directory)))?;
        let lock_path = directory.join(LOCK_NAME);
        // A copy of a directory may have no lock file; then no server has it open either.
        let lock = match OpenOptions::new().read(true).write(true).open(&lock_path) {
            Ok(lock) => Some(Arc::new(Lock(take_lock(lock, &directory)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::Io { path: shown(&lock_path), action: "open", source }),
        };
        Ok(Self { directory, access: Access::ReadOnly, _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only")),
        }
    }
}

/// Makes the directory with its parents, and syncs the names: else a crash could lose the directory with all in it.
fn create_durably(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_durably_parent(parent)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !directory.is_dir() => Err(error),
        Ok(()) | Err(_) => File::open(parent)?.sync_all(),
    }
}

fn create_durably_parent(parent: &Path) -> io::Result<()> {
    if parent == Path::new(".") { Ok(()) } else { create_durably(parent) }
}

fn take_lock(mut lock: File, directory: &Path) -> Result<File, OpenError> {
    let lock_path = directory.join(LOCK_NAME);
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder may be just writing it; a message without the pid is still a message.
            let read = Read::by_ref(&mut lock).take(32).read_to_string(&mut holder);
            let pid = read.ok().and_then(|_| holder.trim().parse().ok());
            return Err(OpenError::Locked { path: shown(directory), pid });
        }
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::Io { path: shown(&lock_path), action: "lock", source });
        }
    }
    // Only for the message to the next: on a full disk the server must start all the same (F8).
    let pid = format!("{}\n", std::process::id());
    let _ = lock.write_all(pid.as_bytes()).and_then(|()| lock.set_len(pid.len() as u64));
    Ok(lock)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Disk for FsDisk {
    type File = FsFile;

    fn open(&mut self, name: &str) -> io::Result<Option<FsFile>> {
        let writable = self.access == Access::ReadWrite;
        match OpenOptions::new().read(true).write(writable).open(self.path(name)) {
            Ok(file) => Ok(Some(FsFile { file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<FsFile> {
        self.check_writable()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(FsFile { file: options.open(self.path(name))? })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.check_writable()?;
        File::open(&self.directory)?.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        if name.is_empty() { shown(&self.directory) } else { shown(&self.path(name)) }
    }
}

/// Takes space on a file system that can only be written to.
fn write_zeros(file: &File, size_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = 0;
    while at < size_bytes {
        let step = usize::try_from(size_bytes - at).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
        file.write_all_at(zeros.get(..step).unwrap_or_default(), at)?;
        at += step as u64;
    }
    Ok(())
}

/// An open file of an [`FsDisk`].
#[derive(Debug)]
pub struct FsFile {
    file: File,
}

impl DiskFile for FsFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&mut self, size_bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size_bytes) {
            Err(Errno::OPNOTSUPP) => write_zeros(&self.file, size_bytes),
            other => Ok(other?),
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
