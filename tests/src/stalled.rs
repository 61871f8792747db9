//! A thread of a server that stands still, while the others go on.

use std::fs;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A stopped thread. It goes on when this is dropped, which must be on the thread that stopped it.
#[derive(Debug)]
pub struct Stalled(Pid);

impl Stalled {
    /// Stops the thread `name` of a process; when this returns it stands still, in the middle of a call to the system
    /// perhaps.
    pub(crate) fn stop(process: u32, name: &str) -> Option<Self> {
        let thread = find_thread(process, name);
        match ptrace::seize(thread, ptrace::Options::empty()) {
            Ok(()) => {}
            Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => return None,
            Err(error) => panic!("thread {name} of {process} cannot be traced: {error}"),
        }
        let stalled = Self(thread);
        ptrace::interrupt(thread).unwrap_or_else(|error| panic!("thread {name} of {process} does not stop: {error}"));
        waitpid(thread, Some(WaitPidFlag::__WALL))
            .unwrap_or_else(|error| panic!("thread {name} of {process} has not stopped: {error}"));
        Some(stalled)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // Its process may have been killed meanwhile.
        let _ = ptrace::detach(self.0, None);
    }
}

fn find_thread(process: u32, name: &str) -> Pid {
    let folder = format!("/proc/{process}/task");
    let threads = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let named = threads.flatten().find(|thread| {
        let comm = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        comm.trim_end() == name
    });
    let thread = named.unwrap_or_else(|| panic!("process {process} has no thread {name}"));
    let number = thread.file_name().to_string_lossy().parse().expect("threads are listed by number");
    Pid::from_raw(number)
}
