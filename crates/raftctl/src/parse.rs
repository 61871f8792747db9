//! From words to a command: finds it in the table, parts flags from words, and says what is wrong.
//!
//! Flags may stand anywhere behind the command's name; `--` ends them. A flag's value is the next word, whatever it
//! looks like, or follows `=`.

use std::collections::BTreeMap;

use crate::command::Command;
use crate::failure::{Failure, FailureKind};
use crate::table::{self, COMMANDS, CommandSpec, FlagSpec};

/// So much of what was typed is repeated in an answer.
const MOST_SHOWN: usize = 60;

/// What was written behind a command's name.
#[derive(Debug, Default)]
pub struct Arguments {
    words: Vec<Vec<u8>>,
    /// The place in `words` from which on `--` had ended the flags.
    literal_from: Option<usize>,
    flags: BTreeMap<&'static str, Vec<u8>>,
}

impl Arguments {
    /// The word at `place`, counted from 0.
    #[must_use]
    pub fn word(&self, place: usize) -> Option<&[u8]> {
        self.words.get(place).map(Vec::as_slice)
    }

    /// Whether the word at `place` stands behind `--`, so that a dash means itself.
    #[must_use]
    pub fn is_literal(&self, place: usize) -> bool {
        self.literal_from.is_some_and(|first| place >= first)
    }

    /// Whether the flag `name` was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    /// The value of the flag `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.flags.get(name).map(Vec::as_slice)
    }

    /// The value of the flag `name` as a number from `least` to `most`, or `default`.
    ///
    /// # Errors
    /// Says which numbers are possible.
    pub fn number(&self, name: &str, default: u64, least: u64, most: u64) -> Result<u64, String> {
        let Some(value) = self.value(name) else { return Ok(default) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("{name} wants a number from {least} to {most}, not {}", printable(value)))
    }
}

/// Makes a command of `words`; the first is its name.
///
/// # Errors
/// A [`Failure`] of kind `usage` that says what to write instead.
pub fn command(words: &[Vec<u8>]) -> Result<Command, Failure> {
    let Some((name, rest)) = words.split_first() else {
        return Err(Failure::unsent("", false, FailureKind::Usage, "no command given; `help` lists them"));
    };
    let name = String::from_utf8_lossy(name);
    let Some(spec) = table::find(&name) else {
        return Err(unknown_command(&name));
    };
    let usage = |message: String| Failure::unsent(spec.name, spec.writes, FailureKind::Usage, message);
    let arguments = part(spec, rest).map_err(usage)?;
    check_count(spec, arguments.words.len()).map_err(usage)?;
    (spec.build)(&arguments).map_err(usage)
}

fn unknown_command(name: &str) -> Failure {
    let names = COMMANDS.iter().map(|command| command.name);
    let hint = match table::nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`help` lists the commands".to_owned(),
    };
    let message = format!("unknown command {}; {hint}", printable(name.as_bytes()));
    // A line of binary may begin with a word of megabytes.
    let op: String = name.chars().take(MOST_SHOWN).collect();
    Failure::unsent(&op, false, FailureKind::Usage, message)
}

/// Parts flags from words.
fn part(spec: &CommandSpec, rest: &[Vec<u8>]) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if arguments.literal_from.is_some() || word == b"-" || !word.starts_with(b"-") {
            arguments.words.push(word.clone());
        } else if word == b"--" {
            arguments.literal_from = Some(arguments.words.len());
        } else {
            let (flag, attached) = find_flag(spec, word)?;
            let value = match (flag.value, attached) {
                (None, None) => Vec::new(),
                (None, Some(_)) => return Err(format!("{} takes no value", flag.name)),
                (Some(_), Some(attached)) => attached,
                (Some(name), None) => {
                    rest.next().cloned().ok_or_else(|| format!("{} wants a value: {} {name}", flag.name, flag.name))?
                }
            };
            if arguments.flags.insert(flag.name, value).is_some() {
                return Err(format!("{} is given twice", flag.name));
            }
        }
    }
    Ok(arguments)
}

/// The flag that `word` names, with the value behind its `=`.
fn find_flag(spec: &CommandSpec, word: &[u8]) -> Result<(&'static FlagSpec, Option<Vec<u8>>), String> {
    let equals = word.iter().position(|byte| *byte == b'=');
    let (name, attached) = match equals.and_then(|at| word.split_at_checked(at)) {
        Some((name, value)) => (name, Some(value.iter().skip(1).copied().collect())),
        None => (word, None),
    };
    let Some(flag) = spec.flags.iter().find(|flag| flag.name.as_bytes() == name) else {
        return Err(unknown_flag(spec, &String::from_utf8_lossy(name)));
    };
    Ok((flag, attached))
}

fn unknown_flag(spec: &CommandSpec, name: &str) -> String {
    const BEFORE_THE_COMMAND: [&str; 5] = ["--endpoints", "--timeout", "--output", "--read", "--keep-going"];
    let shown = printable(name.as_bytes());
    if BEFORE_THE_COMMAND.contains(&name) {
        return format!("{name} stands before the command: raftctl {name} .. {}", spec.name);
    }
    match table::nearest(name, spec.flags.iter().map(|flag| flag.name)) {
        Some(near) => format!("`{}` has no flag {shown}; did you mean {near}?", spec.name),
        None => format!("`{}` has no flag {shown}; a word that begins with a dash stands after `--`", spec.name),
    }
}

fn check_count(spec: &CommandSpec, given: usize) -> Result<(), String> {
    let (fewest, most) = spec.words;
    if (fewest..=most).contains(&given) {
        return Ok(());
    }
    let what = if given < fewest { "too few words" } else { "too many words (quote one that has blanks)" };
    Err(format!("{what}; usage: {}", usage_line(spec)))
}

/// `name usage`, as help prints it.
pub(crate) fn usage_line(spec: &CommandSpec) -> String {
    format!("{} {}", spec.name, spec.usage).trim_end().to_owned()
}

/// What was typed, short and safe to print.
pub(crate) fn printable(word: &[u8]) -> String {
    let shown = crate::words::quote(word.get(..MOST_SHOWN).unwrap_or(word));
    if word.len() > MOST_SHOWN { format!("{shown}..") } else { shown }
}

#[cfg(test)]
mod tests {
    use kv_client::{LeaseChoice, LeaseId, MemberChange, Revision, WatchRequest, WatchTarget};

    use super::*;
    use crate::command::ValueSource;
    use crate::words::split;

    fn parse(line: &str) -> Result<Command, Failure> {
        command(&split(line.as_bytes()).unwrap())
    }

    #[track_caller]
    fn usage(line: &str, wanted: &str) {
        let failure = parse(line).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{line}");
        assert!(failure.message.contains(wanted), "{line}: {:?} does not say {wanted:?}", failure.message);
    }

    #[test]
    fn flags_may_stand_anywhere_until_two_dashes() {
        let wanted =
            Command::Set { key: b"k".into(), value: ValueSource::Given(b"v".into()), if_absent: true, lease: None };
        for line in ["set --if-absent k v", "set k --if-absent v", "set k v --if-absent", "set --if-absent -- k v"] {
            assert_eq!(parse(line), Ok(wanted.clone()), "{line}");
        }
        assert_eq!(
            parse("set k -- --if-absent"),
            Ok(Command::Set {
                key: b"k".into(),
                value: ValueSource::Given(b"--if-absent".into()),
                if_absent: false,
                lease: None
            })
        );
    }

    #[test]
    fn a_flags_value_is_the_next_word_or_follows_equals() {
        let wanted = Command::Scan {
            prefix: b"p".into(),
            from: Some(b"--x=1".into()),
            limit: 7,
            keys_only: false,
            revision: Some(3),
        };
        assert_eq!(parse("scan p --limit 7 --from --x=1 --rev 3"), Ok(wanted.clone()));
        assert_eq!(parse("scan --from=--x=1 --limit=7 --rev=3 p"), Ok(wanted));
    }

    #[test]
    fn a_dash_is_standard_input_unless_behind_two_dashes() {
        let set = |value| Command::Set { key: b"k".into(), value, if_absent: false, lease: None };
        assert_eq!(parse("set k -"), Ok(set(ValueSource::StandardInput)));
        assert_eq!(parse("set k -- -"), Ok(set(ValueSource::Given(b"-".into()))));
    }

    #[test]
    fn numbers_are_read_whole_and_within_limits() {
        assert_eq!(parse("incr n"), Ok(Command::Increment { key: b"n".into(), by: 1 }));
        assert_eq!(parse("incr n -- -5"), Ok(Command::Increment { key: b"n".into(), by: -5 }));
        assert_eq!(parse("incr n -- -9223372036854775808"), Ok(Command::Increment { key: b"n".into(), by: i64::MIN }));
        usage("incr n 9223372036854775808", "64 bits");
        usage("incr n 1.5", "64 bits");
        usage("incr n -5", "after `--`");
        usage("scan --limit 0", "from 1 to");
        usage("scan --limit x", "from 1 to");
        usage("hash --rev -1", "from 0 to");
        usage("get k --rev now", "from 0 to");
        usage("scan --rev", "--rev");
    }

    #[test]
    fn a_leader_may_be_named() {
        assert_eq!(parse("leader transfer"), Ok(Command::TransferLeadership { to: None }));
        assert_eq!(parse("leader transfer 3"), Ok(Command::TransferLeadership { to: Some(3) }));
    }

    #[test]
    fn members_are_listed_and_changed() {
        let change = |line, change| assert_eq!(parse(line), Ok(Command::ChangeMembers { change }), "{line}");
        let add = |becomes_voter| MemberChange::Add { id: 4, address: "[::1]:7004".into(), becomes_voter };
        assert_eq!(parse("member list"), Ok(Command::Members));
        change("member add 4=[::1]:7004", add(false));
        change("member add 4=[::1]:7004 --wait", add(true));
        change("member promote 4", MemberChange::Promote { id: 4 });
        change("member remove 1", MemberChange::Remove { id: 1 });
        for line in ["member", "member add", "member promote", "member list 1", "member adopt 1"] {
            usage(line, "usage: member list | add ID=HOST:PORT [--wait] | promote ID | remove ID");
        }
        for line in ["member add 4", "member add 4=host", "member add 4=:1", "member add 4=h:0", "member add 4=h:x"] {
            usage(line, "ID=HOST:PORT, as in");
        }
        usage("member add 0=h:1", "the number of a node");
        usage("member remove n3", "the number of a node");
        usage("member remove 3 --wait", "--wait belongs to");
    }

    #[test]
    fn other_words_for_a_command_are_that_command() {
        for (alias, name) in [("put k v", "set k v"), ("rm k", "del k"), ("ls p", "scan p")] {
            assert_eq!(parse(alias), parse(name));
        }
    }

    #[test]
    fn times_to_live_and_leases() {
        let lease = |line: &str| match parse(line) {
            Ok(Command::Set { lease, .. }) => lease,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(lease("set k v --ttl 10s"), Some(LeaseChoice::Own { ttl_ms: 10_000 }));
        assert_eq!(lease("set k v --ttl 5m --if-absent"), Some(LeaseChoice::Own { ttl_ms: 300_000 }));
        let id = LeaseId(std::num::NonZeroU64::new(0x7f).unwrap());
        assert_eq!(lease("set k v --lease 000000000000007f"), Some(LeaseChoice::Granted(id)));
        assert_eq!(parse("lease keep-alive 7f"), Ok(Command::KeepAlive { id }));
        for line in ["set k v --ttl 0s", "set k v --ttl 5", "lease grant 1.5s", "lease grant 99999h", "lease grant 1d"]
        {
            usage(line, "is no time to live");
        }
        usage("set k v --ttl 1s --lease 7f", "either --ttl or --lease");
        for line in ["lease revoke 0", "lease revoke xyz", "set k v --lease -"] {
            usage(line, "ID is that of a lease");
        }
        for line in ["lease", "lease grant", "lease list 7f", "lease keep"] {
            usage(line, "usage: lease grant TTL | keep-alive ID | revoke ID | list");
        }
    }

    #[test]
    fn watches_and_transactions() {
        let request = |target, from, previous| WatchRequest { target, from, previous };
        let key = WatchTarget::Key("k".into());
        let watch = |request, count| Ok(Command::Watch { request, count });
        assert_eq!(parse("watch k"), watch(request(key, None, false), None));
        let prefix = request(WatchTarget::Prefix("p/".into()), Some(Revision(7)), true);
        assert_eq!(parse("watch --prefix p/ --from 7 --count 2 --prev"), watch(prefix, Some(2)));
        for line in ["watch", "watch k --prefix p"] {
            usage(line, "either a key or a prefix");
        }
        usage("watch k --count 0", "--count wants a number from 1");
        usage("watch k --from x", "--from wants a number");
        assert!(matches!(parse("txn 'then get a'"), Ok(Command::Transact(_))));
        usage("txn 'get a'", "column 1: expected `if` or `then`");
    }
}
