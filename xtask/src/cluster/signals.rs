//! Waiting for several things at once, and signals as one of them: bytes in a pipe.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Catches the signals that would end the front. Children get the default back when they are executed.
pub(crate) struct Signals {
    /// SIGINT, which Ctrl-C sends to the front and the REPL alike.
    interrupt: UnixStream,
    /// SIGTERM, and SIGHUP of a terminal that is closed.
    terminate: UnixStream,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// If the system is out of file descriptors.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: pipe_of(&[SIGINT])?, terminate: pipe_of(&[SIGTERM, SIGHUP])? })
    }

    /// Readable when Ctrl-C was pressed.
    pub(crate) fn interrupt(&self) -> BorrowedFd<'_> {
        self.interrupt.as_fd()
    }

    /// Readable when we were asked to end.
    pub(crate) fn terminate(&self) -> BorrowedFd<'_> {
        self.terminate.as_fd()
    }

    /// Forgets the Ctrl-Cs so far: in the REPL they belong to the command under way.
    pub(crate) fn forget_interrupts(&self) {
        let mut pressed = [0; 64];
        while (&self.interrupt).read(&mut pressed).is_ok_and(|count| count > 0) {}
    }
}

fn pipe_of(signals: &[i32]) -> io::Result<UnixStream> {
    let (reading, writing) = UnixStream::pair()?;
    reading.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, writing.try_clone()?)?;
    }
    Ok(reading)
}

/// Waits until one of `sources` can be read or is closed, at most for `timeout`; says which of them.
///
/// # Errors
/// If the system cannot wait on one of them.
pub(crate) fn wait_readable(sources: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = sources.iter().map(|source| PollFd::new(source, PollFlags::IN)).collect();
    wait_ready(&mut polled, timeout)
}

/// Waits until one of `polled` is ready for what it is polled for, or broken, at most for `timeout`; says which of them.
///
/// # Errors
/// If the system cannot wait on one of them.
pub(crate) fn wait_ready(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let timeout = timeout.map(|timeout| Timespec::try_from(timeout).expect("time-outs here are seconds"));
    loop {
        match poll(polled, timeout.as_ref()) {
            Ok(_) => return Ok(polled.iter().map(|source| !source.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
