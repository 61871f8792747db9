//! What the storage asks of the world: a flat directory of files (rule 4).

use std::io;

/// A directory that holds the files of one server.
///
/// What was written is durable only after [`DiskFile::sync_data`]; that a file is there under its name only after
/// [`Disk::sync_directory`]. An implementation may lose everything else in a crash, sector by sector and name by name.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Opens the file `name`; `None` if there is none.
    ///
    /// # Errors
    /// As the system reports them.
    fn open(&mut self, name: &str) -> io::Result<Option<Self::File>>;

    /// Creates the file `name`, empty; a file of that name is emptied.
    ///
    /// # Errors
    /// As the system reports them.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives the file `from` the name `to`, in place of what had it.
    ///
    /// # Errors
    /// As the system reports them.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file `name`.
    ///
    /// # Errors
    /// As the system reports them.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// As the system reports them.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes creations, renames and removals so far durable.
    ///
    /// # Errors
    /// As the system reports them. Afterwards nobody knows which names are durable.
    fn sync_directory(&mut self) -> io::Result<()>;

    /// Where `name` is, for messages to a person; the directory itself if `name` is empty.
    fn describe(&self, name: &str) -> String;
}

impl<D: Disk> Disk for &mut D {
    type File = D::File;

    fn open(&mut self, name: &str) -> io::Result<Option<Self::File>> {
        D::open(self, name)
    }

    fn create(&mut self, name: &str) -> io::Result<Self::File> {
        D::create(self, name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        D::rename(self, from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        D::remove(self, name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        D::list(self)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        D::sync_directory(self)
    }

    fn describe(&self, name: &str) -> String {
        D::describe(self, name)
    }
}

/// An open file of a [`Disk`].
pub trait DiskFile {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before; else as the system reports them.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; the file grows as needed.
    ///
    /// # Errors
    /// As the system reports them. Afterwards nobody knows which of the bytes were written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// The file's size in bytes.
    ///
    /// # Errors
    /// As the system reports them.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Takes `size_bytes` of the file system's space for this file, which is empty. What reading gives then is not said.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] if there is not so much; else as the system
    /// reports them.
    fn reserve(&mut self, size_bytes: u64) -> io::Result<()>;

    /// Makes all writes so far durable, and the size needed to read them back (`fdatasync`).
    ///
    /// # Errors
    /// As the system reports them. A later success says nothing about the writes of before (F1).
    fn sync_data(&mut self) -> io::Result<()>;
}
