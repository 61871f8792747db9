//! Commands of the key-value store as words on a line: `client=5b6f01c2 sequence=1 op=set key="a" value="1" if_absent=false`.
//! The client is the first 8 digits of its id.

use std::fmt;

use bytes::Bytes;
use kv_store::{ClusterCommand, Command, Entry, Envelope, LeaseChoice, Transaction};

use crate::output::{Quoted, Shortened};

/// The bytes of a command entry.
pub(crate) struct CommandText<'a>(pub(crate) &'a Bytes);

impl fmt::Display for CommandText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Entry::decode(self.0) {
            Ok(Entry::Client(Envelope { session, principal: _, command })) => {
                let client = session.client.0 >> 96;
                write!(f, "client={client:08x} sequence={} ", session.sequence)?;
                write_command(f, &command)
            }
            Ok(Entry::Cluster(command)) => write_cluster_command(f, &command),
            // The store refuses these too, the same on every replica.
            Err(error) => write!(f, "op=unreadable why=\"{error}\" {}", Shortened { name: "payload", bytes: self.0 }),
        }
    }
}

fn write_command(f: &mut fmt::Formatter<'_>, command: &Command) -> fmt::Result {
    let value = |name, bytes| Shortened { name, bytes };
    match command {
        Command::Set { key, value: new, if_absent } => {
            write!(f, "op=set key={} {} if_absent={if_absent}", Quoted(key), value("value", new))
        }
        Command::Delete { key } => write!(f, "op=del key={}", Quoted(key)),
        Command::DeletePrefix { prefix } => write!(f, "op=del prefix={}", Quoted(prefix)),
        Command::CompareAndSwap { key, expected, new } => {
            write!(f, "op=cas key={} {} {}", Quoted(key), value("expected", expected), value("new", new))
        }
        Command::Increment { key, by } => write!(f, "op=incr key={} by={by}", Quoted(key)),
        Command::Transact(Transaction { comparisons, then, otherwise }) => {
            let (comparisons, then, otherwise) = (comparisons.len(), then.len(), otherwise.len());
            write!(f, "op=txn comparisons={comparisons} then={then} else={otherwise}")
        }
        Command::SetLeased { key, value: new, if_absent, lease } => {
            write!(f, "op=set key={} {} if_absent={if_absent} ", Quoted(key), value("value", new))?;
            match lease {
                LeaseChoice::Granted(id) => write!(f, "lease={id}"),
                LeaseChoice::Own { ttl_ms } => write!(f, "ttl_ms={ttl_ms}"),
            }
        }
        Command::GrantLease { ttl_ms } => write!(f, "op=lease_grant ttl_ms={ttl_ms}"),
        Command::KeepAlive { id } => write!(f, "op=lease_keep_alive lease={id}"),
        Command::RevokeLease { id } => write!(f, "op=lease_revoke lease={id}"),
    }
}

fn write_cluster_command(f: &mut fmt::Formatter<'_>, command: &ClusterCommand) -> fmt::Result {
    match command {
        ClusterCommand::Compact { aged, history_bytes } => {
            write!(f, "op=compact aged={aged} history_bytes={history_bytes}")
        }
        ClusterCommand::Expire => f.write_str("op=expire"),
        ClusterCommand::SetQuota { quota_bytes: Some(quota_bytes) } => {
            write!(f, "op=set_quota quota_bytes={quota_bytes}")
        }
        ClusterCommand::SetQuota { quota_bytes: None } => f.write_str("op=set_quota quota_bytes=none"),
    }
}

#[cfg(test)]
mod tests {
    use kv_store::{ClientId, Principal, SessionHeader, Stamp};

    use super::*;

    fn shown(command: Command) -> String {
        let session = SessionHeader {
            client: ClientId(0x0123_4567_89ab_cdef << 64),
            birth: Stamp(1),
            sequence: 7,
            lowest_unanswered: 7,
            deadline: Stamp(2),
        };
        CommandText(&Envelope { session, principal: Principal::nobody(), command }.encode()).to_string()
    }

    #[test]
    fn every_command_is_one_line_of_words() {
        let bytes = Bytes::from_static;
        let long = Bytes::from(vec![b'x'; 100]);
        let table = [
            (
                Command::Set { key: bytes(b"a"), value: bytes(b"\n"), if_absent: true },
                "op=set key=\"a\" value=\"\\n\" if_absent=true".to_owned(),
            ),
            (
                Command::Set { key: bytes(b"a"), value: long, if_absent: false },
                format!("op=set key=\"a\" value=\"{}\" value_bytes=100 if_absent=false", "x".repeat(64)),
            ),
            (Command::Delete { key: bytes(b"a b") }, "op=del key=\"a b\"".to_owned()),
            (Command::DeletePrefix { prefix: bytes(b"") }, "op=del prefix=\"\"".to_owned()),
            (
                Command::CompareAndSwap { key: bytes(b"k"), expected: bytes(b"1"), new: bytes(b"2") },
                "op=cas key=\"k\" expected=\"1\" new=\"2\"".to_owned(),
            ),
            (Command::Increment { key: bytes(b"n"), by: -5 }, "op=incr key=\"n\" by=-5".to_owned()),
            (Command::Transact(Transaction::default()), "op=txn comparisons=0 then=0 else=0".to_owned()),
            (
                Command::SetLeased {
                    key: bytes(b"a"),
                    value: bytes(b"1"),
                    if_absent: false,
                    lease: LeaseChoice::Own { ttl_ms: 300 },
                },
                "op=set key=\"a\" value=\"1\" if_absent=false ttl_ms=300".to_owned(),
            ),
            (Command::GrantLease { ttl_ms: 300 }, "op=lease_grant ttl_ms=300".to_owned()),
        ];
        for (command, words) in table {
            assert_eq!(shown(command), format!("client=01234567 sequence=7 {words}"));
        }
        let compact = ClusterCommand::Compact { aged: kv_store::Revision(7), history_bytes: 9 };
        for (command, words) in [
            (compact, "op=compact aged=7 history_bytes=9"),
            (ClusterCommand::Expire, "op=expire"),
            (ClusterCommand::SetQuota { quota_bytes: Some(5) }, "op=set_quota quota_bytes=5"),
        ] {
            assert_eq!(CommandText(&command.encode()).to_string(), words);
        }
        let unreadable = CommandText(&bytes(b"\xffrest")).to_string();
        assert!(
            unreadable.starts_with("op=unreadable why=\"") && unreadable.ends_with("payload=\"\\xffrest\""),
            "{unreadable}"
        );
    }
}
