//! The words of the scripts: servers, positions, durations, and messages that a script makes up.

use std::str::FromStr;
use std::time::Duration;

use goldenscript::Argument;
use raft_core::{
    AppendResult, Body, ClusterTime, DiskId, Entry, HandOver, Incarnation, LogIndex, LogPosition, MemberChange, NodeId,
    Payload, Poll, ReadId, ReadRound, Refusal, Term, Verdict,
};

use crate::cluster::{member_on, n};

type Result<T> = std::result::Result<T, String>;

/// `n1`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server(pub(crate) NodeId);

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let id = text.strip_prefix('n').and_then(|id| id.parse().ok());
        id.and_then(NodeId::new).map(Self).ok_or_else(|| format!("{text} is no server; write n1"))
    }
}

/// `5@2`: index 5, term 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position(pub(crate) LogPosition);

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let (index, term) = text.split_once('@').ok_or_else(|| format!("{text} is no position; write 5@2"))?;
        Ok(Self(LogPosition::new(Term(number(term)?), LogIndex(number(index)?))))
    }
}

/// `100ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix("ms").and_then(|number| number.parse().ok());
        number.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| format!("{text} is no time; write 100ms"))
    }
}

/// A number; `max` is the largest there is.
pub(crate) fn number(text: &str) -> Result<u64> {
    if text == "max" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// The entry at `position`. Its command names its position, so that equal positions mean equal entries.
pub(crate) fn entry(position: LogPosition) -> Entry {
    let payload = Payload::Command(position.to_string().into());
    Entry { position, stamp: ClusterTime(0), payload }
}

/// Positions with spaces in between, as entries.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>> {
    text.split_whitespace().map(|text| Ok(entry(text.parse::<Position>()?.0))).collect()
}

fn change(key: &str, value: &str) -> Result<MemberChange> {
    let (id, disk) = value.split_once('/').unwrap_or((value, ""));
    let id = id.parse::<Server>()?.0;
    let disk = if disk.is_empty() { id.as_u64() } else { number(disk)? };
    let member = member_on(id, DiskId(disk.into()));
    Ok(match key {
        "add" => MemberChange::AddLearner { id, member, becomes_voter: false },
        "join" => MemberChange::AddLearner { id, member, becomes_voter: true },
        "promote" => MemberChange::Promote { id },
        "demote" => MemberChange::Demote { id },
        "remove" => MemberChange::Remove { id },
        "replace" => MemberChange::Replace { id, member },
        _ => return Err(format!("{key}= is no change of the membership")),
    })
}

/// The `key=value` arguments of a made-up message.
pub(crate) struct Fields<'a>(pub(crate) &'a [Argument]);

impl Fields<'_> {
    pub(crate) fn text(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find_map(|argument| match argument {
            Argument::KeyValue(key, value) if key == wanted => Some(value.as_str()),
            _ => None,
        })
    }

    pub(crate) fn number(&self, key: &str) -> Result<u64> {
        self.text(key).map_or(Ok(0), number)
    }

    /// `add=n4 join=n5 promote=n4 demote=n1 remove=n2 replace=n3/13`: the changes, in this order. A server may be named
    /// with the number of its disk; without, it is that of its id. `join` adds one that becomes a voter by itself.
    pub(crate) fn changes(&self) -> Result<Vec<MemberChange>> {
        let change = |argument: &Argument| {
            let Argument::KeyValue(key, value) = argument else { return None };
            Some(change(key, value))
        };
        self.0.iter().filter_map(change).collect()
    }

    fn position(&self, key: &str) -> Result<LogPosition> {
        self.text(key).map_or(Ok(LogPosition::ORIGIN), |text| Ok(text.parse::<Position>()?.0))
    }

    fn verdict(&self) -> Result<Verdict> {
        match self.text("verdict") {
            Some("granted") => Ok(Verdict::Granted),
            Some("refused") => Ok(Verdict::Refused(Refusal::VotedFor(n(9)))),
            other => Err(format!("verdict={other:?} is neither granted nor refused")),
        }
    }

    /// What a message of this kind says.
    pub(crate) fn body(&self, kind: &str) -> Result<Body> {
        Ok(match kind {
            "PreVote" => Body::PreVote { poll: Poll(self.number("poll")?), last_log: self.position("last")? },
            "PreVoteReply" => Body::PreVoteReply { poll: Poll(self.number("poll")?), verdict: self.verdict()? },
            "RequestVote" => Body::RequestVote {
                last_log: self.position("last")?,
                is_transfer: self.text("transfer").is_some_and(|value| value == "yes"),
            },
            "RequestVoteReply" => Body::RequestVoteReply { verdict: self.verdict()? },
            "AppendEntries" => Body::AppendEntries {
                prev: self.position("prev")?,
                entries: entries(self.text("entries").unwrap_or_default())?,
                commit: LogIndex(self.number("commit")?),
            },
            "Matched" => Body::AppendEntriesReply(AppendResult::Matched(LogIndex(self.number("index")?))),
            "Mismatch" => Body::AppendEntriesReply(AppendResult::Mismatch {
                prev: self.position("prev")?,
                hint: self.position("hint")?,
            }),
            "InstallSnapshot" => Body::InstallSnapshot {
                last: self.position("last")?,
                offset: self.number("offset")?,
                data: self.text("data").unwrap_or_default().to_owned().into(),
                done: self.text("done").is_some_and(|value| value == "yes"),
            },
            "InstallSnapshotReply" => {
                Body::InstallSnapshotReply { last: self.position("last")?, offset: self.number("offset")? }
            }
            "Heartbeat" => {
                Body::Heartbeat { commit: LogIndex(self.number("commit")?), round: ReadRound(self.number("round")?) }
            }
            "HeartbeatReply" => Body::HeartbeatReply { round: ReadRound(self.number("round")?) },
            "TimeoutNow" => Body::TimeoutNow { why: HandOver::Planned },
            "ReadIndex" => Body::ReadIndex {
                id: ReadId(self.number("id")?),
                incarnation: Incarnation(self.number("incarnation")?),
            },
            "ReadIndexReply" => Body::ReadIndexReply {
                id: ReadId(self.number("id")?),
                incarnation: Incarnation(self.number("incarnation")?),
                index: LogIndex(self.number("index")?),
            },
            _ => return Err(format!("{kind} is no message")),
        })
    }
}
