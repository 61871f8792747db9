//! How a front speaks with the supervisor: one JSON line each way over a Unix socket, a connection a request.
//!
//! [`Request::Events`] is the exception: its connection stays, and the supervisor writes an [`Event`] a line until it
//! ends, which closes the connection.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::links::{Cut, Link};
use super::place::Place;

/// The socket's name in the cluster's folder.
const SOCKET: &str = "control.sock";
/// The longest line either side accepts. A report of nine nodes, all cut off, has about 4 KiB.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The supervisor waits so long for a request it was promised by a connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What a front asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "request")]
pub(crate) enum Request {
    Status,
    Kill {
        id: u64,
    },
    Restart {
        id: u64,
    },
    Pause {
        id: u64,
    },
    Resume {
        id: u64,
    },
    Cut {
        cut: Cut,
    },
    /// Mend all that is cut.
    Heal,
    Down,
    /// Live on without the lifeline, until [`Request::Down`].
    Detach,
    Events,
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub(crate) enum Reply {
    Done { message: String },
    Status(Report),
    Failed { message: String },
}

/// The cluster as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The client that was built together with the servers.
    pub(crate) raftctl: PathBuf,
    pub(crate) nodes: Vec<NodeReport>,
    /// The links that are cut.
    pub(crate) cut: BTreeSet<Link>,
}

/// One server as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    pub(crate) id: u64,
    /// `HOST:PORT`.
    pub(crate) address: String,
    pub(crate) process: ProcessState,
}

/// Whether a server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessState {
    Running {
        pid: u32,
    },
    Paused {
        pid: u32,
    },
    /// How it ended, in words.
    Ended {
        how: String,
    },
}

/// A server ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: u64,
    /// How it ended, in words.
    pub(crate) how: String,
    /// Whether somebody had asked for it, by `kill` or `restart`.
    pub(crate) asked_for: bool,
}

/// The socket's path through the open folder: the path of a socket has at most 108 bytes, that of a checkout may have more.
fn socket_in(folder: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET)
}

/// Opens the control socket. The caller holds the cluster's lock, so what lies there is from a supervisor that is gone.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn listen(place: &Place) -> Result<UnixListener> {
    remove_socket(place);
    let folder = File::open(place.directory()).context("the cluster's folder cannot be opened")?;
    let listener = UnixListener::bind(socket_in(&folder)).context("the control socket cannot be made")?;
    listener.set_nonblocking(true).context("the control socket cannot be set up")?;
    Ok(listener)
}

/// Takes the control socket away, so that nobody begins a conversation with a supervisor that is about to leave.
pub(crate) fn remove_socket(place: &Place) {
    // Not there is as good as removed; and a socket nobody listens on is taken for absent anyway.
    let _ = std::fs::remove_file(place.directory().join(SOCKET));
}

/// Connects to the supervisor; `None` if none is running.
///
/// # Errors
/// If there is a socket that cannot be spoken to.
fn connect(place: &Place) -> Result<Option<UnixStream>> {
    let Ok(folder) = File::open(place.directory()) else { return Ok(None) };
    match UnixStream::connect(socket_in(&folder)) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).context("the control socket cannot be reached"),
    }
}

/// Whether a supervisor answers for the cluster.
pub(crate) fn is_served(place: &Place) -> bool {
    matches!(connect(place), Ok(Some(_)))
}

/// Asks the supervisor and returns what it did, in words, or its report.
///
/// # Errors
/// If no cluster is running, or the supervisor refuses.
pub(crate) fn ask(place: &Place, request: Request) -> Result<Reply> {
    let stream = open(place, request)?;
    let reply = read_line(&stream).with_context(|| format!("the supervisor of {} ended meanwhile", place.name()))?;
    match reply {
        Reply::Failed { message } => bail!(message),
        Reply::Done { .. } | Reply::Status(_) => Ok(reply),
    }
}

/// Asks for the supervisor's report.
///
/// # Errors
/// As [`ask`].
pub(crate) fn report(place: &Place) -> Result<Report> {
    match ask(place, Request::Status)? {
        Reply::Status(report) => Ok(report),
        Reply::Done { .. } | Reply::Failed { .. } => bail!("the supervisor gave another answer than was asked for"),
    }
}

/// Asks to be told when servers end.
///
/// # Errors
/// As [`ask`].
pub(crate) fn events(place: &Place) -> Result<UnixStream> {
    open(place, Request::Events)
}

fn open(place: &Place, request: Request) -> Result<UnixStream> {
    let Some(stream) = connect(place)? else {
        bail!("cluster {name} is not running; `cargo xtask cluster up --name {name}` starts it", name = place.name());
    };
    write_line(&stream, &request).context("the supervisor takes no request")?;
    Ok(stream)
}

/// Reads the request of a connection just accepted; the time for it is bounded.
///
/// # Errors
/// If none comes, or it is not one.
pub(crate) fn read_request(stream: &UnixStream) -> Result<Request> {
    stream.set_nonblocking(false).context("a control connection cannot be set up")?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).context("a control connection cannot be set up")?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT)).context("a control connection cannot be set up")?;
    read_line(stream)
}

/// Writes one line.
///
/// # Errors
/// If the other side is gone.
pub(crate) fn write_line<T: Serialize>(mut stream: impl Write, line: &T) -> Result<()> {
    let mut text = serde_json::to_vec(line).context("control messages are plain data")?;
    text.push(b'\n');
    stream.write_all(&text).context("the other side is gone")?;
    stream.flush().context("the other side is gone")
}

/// Reads one line.
///
/// # Errors
/// If the other side says nothing, or something else.
pub(crate) fn read_line<T: DeserializeOwned>(stream: impl Read) -> Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE_BYTES)).read_line(&mut line).context("no answer")?;
    if line.is_empty() {
        bail!("no answer");
    }
    serde_json::from_str(&line).with_context(|| format!("not a control message: {}", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_json() {
        let mut line = Vec::new();
        write_line(&mut line, &Request::Kill { id: 2 }).unwrap();
        assert_eq!(String::from_utf8(line.clone()).unwrap(), "{\"request\":\"kill\",\"id\":2}\n");
        assert_eq!(read_line::<Request>(line.as_slice()).unwrap(), Request::Kill { id: 2 });
        for cut in [Cut::Between(1, 2), Cut::OneWay(Link { from: 1, to: 2 }), Cut::Around(1)] {
            let mut line = Vec::new();
            write_line(&mut line, &Request::Cut { cut }).unwrap();
            assert_eq!(read_line::<Request>(line.as_slice()).unwrap(), Request::Cut { cut });
        }
        assert!(read_line::<Request>(&b""[..]).is_err());
        assert!(read_line::<Request>(&b"{\"request\":\"explode\"}\n"[..]).is_err());
    }
}
