//! The one table of commands. Parsing, completion and help read it; nothing else knows a command's flags.

use crate::build;
use crate::command::Command;
use crate::parse::Arguments;

/// A command as people see it.
#[derive(Debug)]
pub struct CommandSpec {
    /// The word that begins it.
    pub name: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// The fewest and the most words that follow it, flags not counted.
    pub words: (usize, usize),
    /// Its flags.
    pub flags: &'static [FlagSpec],
    /// What else there is to know; may be empty.
    pub notes: &'static str,
    /// Lines that can be typed as they are.
    pub examples: &'static [&'static str],
    /// Whether it changes something: then its failures say `maybe_applied`.
    pub writes: bool,
    /// How its words become a command.
    pub build: Build,
}

impl CommandSpec {
    /// The words of which one must follow its name, if any: words to be filled in are written large in `usage`.
    pub(crate) fn subcommands(&self) -> impl Iterator<Item = &'static str> {
        let first_words = self.usage.split(" | ").filter_map(|form| form.split(' ').next());
        first_words.filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
    }
}

/// Whether a command is there already.
#[derive(Clone, Copy, Debug)]
pub enum Build {
    /// It is: this makes it, or says what is wrong.
    Now(fn(&Arguments) -> Result<Command, String>),
    /// Not yet.
    Later,
}

/// A flag of one command.
#[derive(Debug)]
pub struct FlagSpec {
    /// With its dashes.
    pub name: &'static str,
    /// The name of its value, if it takes one.
    pub value: Option<&'static str>,
    /// One line.
    pub summary: &'static str,
    /// `false`: the name is reserved, using it says so.
    pub is_available: bool,
}

impl FlagSpec {
    const fn switch(name: &'static str, summary: &'static str) -> Self {
        Self { name, value: None, summary, is_available: true }
    }

    const fn valued(name: &'static str, value: &'static str, summary: &'static str) -> Self {
        Self { name, value: Some(value), summary, is_available: true }
    }

    const fn later(self) -> Self {
        Self { is_available: false, ..self }
    }
}

/// The most words a command may take where there is no other limit.
const MANY: usize = 1_000;

const REVISION: FlagSpec = FlagSpec::valued("--rev", "R", "read as of revision R; --read does not matter then");

/// All commands, in the order of `help`.
pub const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        usage: "KEY [--rev R] [--raw]",
        summary: "print a key's value",
        words: (1, 1),
        flags: &[FlagSpec::switch("--raw", "write the value's bytes alone, without a newline"), REVISION],
        notes: "Exit code 1 if there is no such key, or was none at revision R.",
        examples: &["get config/color", "get config/color --rev 12", "get image --raw"],
        writes: false,
        build: Build::Now(build::get),
    },
    CommandSpec {
        name: "set",
        usage: "KEY VALUE [--if-absent]",
        summary: "give a key a value",
        words: (2, 2),
        flags: &[
            FlagSpec::switch("--if-absent", "only if the key does not exist; exit code 1 if it does"),
            FlagSpec::valued("--ttl", "TIME", "let the key expire").later(),
            FlagSpec::valued("--lease", "ID", "tie the key to a lease").later(),
        ],
        notes: "The value `-` is read from standard input, to its end; a dash itself stands after `--`.",
        examples: &["set config/color green", "set greeting 'hello world'", "set lock me --if-absent", "set k -- -"],
        writes: true,
        build: Build::Now(build::set),
    },
    CommandSpec {
        name: "del",
        usage: "KEY | --prefix P",
        summary: "delete a key, or all keys that begin with P",
        words: (0, 1),
        flags: &[FlagSpec::valued("--prefix", "P", "delete every key that begins with P")],
        notes: "Many keys are deleted in pieces of 10,000, each of them at once. Exit code 1 if there was nothing to delete.",
        examples: &["del config/color", "del --prefix session/"],
        writes: true,
        build: Build::Now(build::delete),
    },
    CommandSpec {
        name: "cas",
        usage: "KEY EXPECTED NEW",
        summary: "set a key to NEW if its value is EXPECTED",
        words: (3, 3),
        flags: &[],
        notes: "Exit code 1 if the value was another, or the key does not exist.",
        examples: &["cas config/color green blue"],
        writes: true,
        build: Build::Now(build::compare_and_swap),
    },
    CommandSpec {
        name: "incr",
        usage: "KEY [BY]",
        summary: "add BY (1 unless given) to a decimal integer",
        words: (1, 2),
        flags: &[],
        notes: "A missing key counts as 0. A negative BY stands after `--`.",
        examples: &["incr visits", "incr visits 10", "incr stock -- -3"],
        writes: true,
        build: Build::Now(build::increment),
    },
    CommandSpec {
        name: "scan",
        usage: "[PREFIX] [--limit N] [--from KEY] [--rev R] [--keys]",
        summary: "list keys that begin with PREFIX, in order",
        words: (0, 1),
        flags: &[
            FlagSpec::valued("--limit", "N", "at most N keys (1,000 unless given)"),
            FlagSpec::valued("--from", "KEY", "begin at KEY, itself included"),
            FlagSpec::switch("--keys", "leave the values out"),
            REVISION,
        ],
        notes: "An answer is also cut at 1 MiB. `next` of a page is the `--from` of the one after it; with the first page's \
                `revision` as --rev, all pages are one view. As of a revision a page may end early, and go on at `next`.",
        examples: &["scan", "scan config/", "scan --keys --limit 10", "scan user/ --from user/500 --rev 12"],
        writes: false,
        build: Build::Now(build::scan),
    },
    CommandSpec {
        name: "status",
        usage: "",
        summary: "show every node: role, term, indexes; works without a quorum",
        words: (0, 0),
        flags: &[],
        notes: "",
        examples: &["status"],
        writes: false,
        build: Build::Now(build::status),
    },
    CommandSpec {
        name: "leader",
        usage: "transfer [ID]",
        summary: "make node ID leader, or the follower that lacks least",
        words: (1, 2),
        flags: &[],
        notes: "Writes wait a moment and are not refused. Answers when the new leader is known. With `timeout` the transfer may \
                yet come about; `status` shows who leads.",
        examples: &["leader transfer", "leader transfer 3"],
        writes: true,
        build: Build::Now(build::leader),
    },
    CommandSpec {
        name: "member",
        usage: "list | add ID=HOST:PORT [--wait] | promote ID | remove ID",
        summary: "show or change who is in the cluster",
        words: (1, 2),
        flags: &[FlagSpec::switch("--wait", "with `add`: make it a voter once it has caught up, and answer then")],
        notes: "A node that is to be added runs already, with `--join` and an address of this cluster; HOST:PORT is where its \
                peers reach it. It gets all writes and no vote, until it is promoted or, with --wait, has caught up. The \
                leader may be removed too; it hands over. One change at a time: another meanwhile is refused as `conflict`.",
        examples: &["member list", "member add 4=127.0.0.1:7004 --wait", "member promote 4", "member remove 1"],
        writes: true,
        build: Build::Now(build::member),
    },
    CommandSpec {
        name: "hash",
        usage: "[--rev R]",
        summary: "compare the state hashes of all nodes at one revision",
        words: (0, 0),
        flags: &[FlagSpec::valued(
            "--rev",
            "R",
            "at revision R, which must be a recent one, instead of the current one",
        )],
        notes: "`equal` says that every member answered and that all hashes are the same. A member that did not answer in \
                time has the hash null.",
        examples: &["hash", "hash --rev 1200"],
        writes: false,
        build: Build::Now(build::hash),
    },
    CommandSpec {
        name: "bench",
        usage: "[--clients C] [--connections N] [--ops N] [--key-size B] [--value-size B] [--mix set=10,get=90]",
        summary: "measure throughput and latency",
        words: (0, 0),
        flags: &[
            FlagSpec::valued("--clients", "C", "clients, each with one request at a time (1 unless given)"),
            FlagSpec::valued("--connections", "N", "connections they share (1 unless given)"),
            FlagSpec::valued("--ops", "N", "operations in all (10,000 unless given)"),
            FlagSpec::valued("--key-size", "B", "bytes a key, 7 to 4,096 (16 unless given)"),
            FlagSpec::valued("--value-size", "B", "bytes a value, up to 1,048,576 (128 unless given)"),
            FlagSpec::valued("--mix", "MIX", "shares of set and get, such as set=10,get=90 (set=100 unless given)"),
        ],
        notes: "Writes keys that begin with `bench/` and leaves them there: `del --prefix bench/` removes them. Reads are as \
                fresh as --read says. The percentiles are those of operations that succeeded.",
        examples: &["bench", "bench --clients 64 --ops 100000 --mix set=10,get=90"],
        writes: false,
        build: Build::Now(build::bench),
    },
    CommandSpec {
        name: "help",
        usage: "[COMMAND]",
        summary: "list the commands, or explain one",
        words: (0, 1),
        flags: &[],
        notes: "",
        examples: &["help", "help scan"],
        writes: false,
        build: Build::Now(build::help),
    },
    later("txn", "'if .. then .. else ..'", "several commands at once", true),
    later("watch", "KEY | --prefix P", "follow changes", false),
    later("lease", "grant | keep-alive | revoke | list", "keys that live as long as their owner", true),
];

/// A command whose name is taken, and which says so until it is there.
const fn later(name: &'static str, usage: &'static str, summary: &'static str, writes: bool) -> CommandSpec {
    CommandSpec {
        name,
        usage,
        summary,
        words: (0, MANY),
        flags: &[],
        notes: "Not in this version yet.",
        examples: &[],
        writes,
        build: Build::Later,
    }
}

/// The command called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// The name nearest to `typed`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let farthest = (typed.chars().count() / 2).clamp(1, 2);
    names
        .map(|name| (strsim::osa_distance(typed, name), name))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
