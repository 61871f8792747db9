//! The one table of commands. Parsing, completion and help read it; nothing else knows a command's flags.

use crate::build;
use crate::command::Command;
use crate::parse::Arguments;

/// A command as people see it.
#[derive(Debug)]
pub struct CommandSpec {
    /// The word that begins it.
    pub name: &'static str,
    /// Other words for it, from other shells.
    pub aliases: &'static [&'static str],
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

/// Makes a command of its words, or says what is wrong.
pub type Build = fn(&Arguments) -> Result<Command, String>;

/// A flag of one command.
#[derive(Debug)]
pub struct FlagSpec {
    /// With its dashes.
    pub name: &'static str,
    /// The name of its value, if it takes one.
    pub value: Option<&'static str>,
    /// One line.
    pub summary: &'static str,
}

impl FlagSpec {
    const fn switch(name: &'static str, summary: &'static str) -> Self {
        Self { name, value: None, summary }
    }

    const fn valued(name: &'static str, value: &'static str, summary: &'static str) -> Self {
        Self { name, value: Some(value), summary }
    }
}

const REVISION: FlagSpec = FlagSpec::valued("--rev", "R", "read as of revision R; --read does not matter then");

/// All commands, in the order of `help`.
pub const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        aliases: &[],
        usage: "KEY [--rev R] [--raw]",
        summary: "print a key's value",
        words: (1, 1),
        flags: &[FlagSpec::switch("--raw", "write the value's bytes alone, without a newline"), REVISION],
        notes: "Exit code 1 if there is no such key, or was none at revision R.",
        examples: &["get config/color", "get config/color --rev 12", "get image --raw"],
        writes: false,
        build: build::get,
    },
    CommandSpec {
        name: "set",
        aliases: &["put"],
        usage: "KEY VALUE [--if-absent] [--ttl TIME] [--lease ID]",
        summary: "give a key a value",
        words: (2, 2),
        flags: &[
            FlagSpec::switch("--if-absent", "only if the key does not exist; exit code 1 if it does"),
            FlagSpec::valued("--ttl", "TIME", "let the key go by itself after TIME, such as 500ms, 10s or 1h"),
            FlagSpec::valued("--lease", "ID", "let the key go with a lease that was granted"),
        ],
        notes: "A key that is set without --ttl and --lease stays, whatever it was set with before. The value `-` is read from standard input, to its end; a dash itself stands after `--`.",
        examples: &[
            "set config/color green",
            "set greeting 'hello world'",
            "set job/7 taken --ttl 10s",
            "set lock me --if-absent",
            "set k -- -",
        ],
        writes: true,
        build: build::set,
    },
    CommandSpec {
        name: "del",
        aliases: &["rm"],
        usage: "KEY | --prefix P",
        summary: "delete a key, or all keys that begin with P",
        words: (0, 1),
        flags: &[FlagSpec::valued("--prefix", "P", "delete every key that begins with P")],
        notes: "Many keys are deleted in pieces of 10,000, each of them at once. Exit code 1 if there was nothing to delete.",
        examples: &["del config/color", "del --prefix session/"],
        writes: true,
        build: build::delete,
    },
    CommandSpec {
        name: "cas",
        aliases: &[],
        usage: "KEY EXPECTED NEW",
        summary: "set a key to NEW if its value is EXPECTED",
        words: (3, 3),
        flags: &[],
        notes: "Exit code 1 if the value was another, or the key does not exist.",
        examples: &["cas config/color green blue"],
        writes: true,
        build: build::compare_and_swap,
    },
    CommandSpec {
        name: "incr",
        aliases: &[],
        usage: "KEY [BY]",
        summary: "add BY (1 unless given) to a decimal integer",
        words: (1, 2),
        flags: &[],
        notes: "A missing key counts as 0. A negative BY stands after `--`.",
        examples: &["incr visits", "incr visits 10", "incr stock -- -3"],
        writes: true,
        build: build::increment,
    },
    CommandSpec {
        name: "scan",
        aliases: &["ls"],
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
        build: build::scan,
    },
    CommandSpec {
        name: "txn",
        aliases: &[],
        usage: "'if COND && .. then OP; .. else OP; ..'",
        summary: "compare, then do one thing or another, all at one revision",
        words: (1, 1),
        flags: &[],
        notes: "Conditions: value(KEY), version(KEY), create(KEY), mod(KEY) with == != < <= > >=, exists(KEY), absent(KEY). \
                Operations: get KEY, set KEY VALUE, del KEY, del --prefix P, scan [P] [--limit N] [--keys]; each sees those \
                before it. `if` and `else` may be left out. At most 128 in each list. An absent key has version 0, and a \
                value unequal to every other. Exit code 1 if the conditions did not hold.",
        examples: &[
            "txn 'if value(a) == \"1\" && mod(b) < 7 then set b 2; get c else get a'",
            "txn 'if absent(lock) then set lock me'",
            "txn 'then set a 1; set b 2'",
        ],
        writes: true,
        build: build::transaction,
    },
    CommandSpec {
        name: "watch",
        aliases: &[],
        usage: "KEY | --prefix P [--from REV] [--count N] [--prev]",
        summary: "follow changes as they come, from now on or from a revision on",
        words: (0, 1),
        flags: &[
            FlagSpec::valued("--prefix", "P", "all keys that begin with P"),
            FlagSpec::valued("--from", "REV", "begin with the changes of revision REV, as far back as history goes"),
            FlagSpec::valued("--count", "N", "end after N events"),
            FlagSpec::switch("--prev", "tell also what each value was before"),
        ],
        notes: "Goes on until Ctrl-C. If a node goes away, the watch resumes at another one, without a gap. When it cannot go \
                on, it says from which revision to resume.",
        examples: &["watch config/color", "watch --prefix config/ --prev", "watch lock --from 120 --count 1"],
        writes: false,
        build: build::watch,
    },
    CommandSpec {
        name: "lease",
        aliases: &[],
        usage: "grant TTL | keep-alive ID | revoke ID | list",
        summary: "keys that go when nobody keeps them alive",
        words: (1, 2),
        flags: &[],
        notes: "`set KEY VALUE --lease ID` ties a key to a lease. A lease that is not kept alive for TTL takes its keys with it; \
                so does `revoke`. Time without a leader does not count.",
        examples: &["lease grant 10s", "lease keep-alive 5692161d100b05e5", "lease list"],
        writes: true,
        build: build::lease,
    },
    CommandSpec {
        name: "status",
        aliases: &[],
        usage: "",
        summary: "show every node: role, term, indexes; works without a quorum",
        words: (0, 0),
        flags: &[],
        notes: "",
        examples: &["status"],
        writes: false,
        build: build::status,
    },
    CommandSpec {
        name: "leader",
        aliases: &[],
        usage: "transfer [ID]",
        summary: "make node ID leader, or the follower that lacks least",
        words: (1, 2),
        flags: &[],
        notes: "Writes wait a moment and are not refused. Answers when the new leader is known. With `timeout` the transfer may \
                yet come about; `status` shows who leads.",
        examples: &["leader transfer", "leader transfer 3"],
        writes: true,
        build: build::leader,
    },
    CommandSpec {
        name: "member",
        aliases: &[],
        usage: "list | add ID=HOST:PORT [--wait] | promote ID | remove ID",
        summary: "show or change who is in the cluster",
        words: (1, 2),
        flags: &[FlagSpec::switch("--wait", "with `add`: make it a voter once it has caught up, and answer then")],
        notes: "A node that is to be added runs already, with `--join` and an address of this cluster; HOST:PORT is where its \
                peers reach it. It gets all writes and no vote, until it is promoted or, with --wait, has caught up. The \
                leader may be removed too; it hands over. One change at a time: another meanwhile is refused as `conflict`.",
        examples: &["member list", "member add 4=127.0.0.1:7004 --wait", "member promote 4", "member remove 1"],
        writes: true,
        build: build::member,
    },
    CommandSpec {
        name: "hash",
        aliases: &[],
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
        build: build::hash,
    },
    CommandSpec {
        name: "bench",
        aliases: &[],
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
        build: build::bench,
    },
    CommandSpec {
        name: "help",
        aliases: &[],
        usage: "[COMMAND]",
        summary: "list the commands, or explain one",
        words: (0, 1),
        flags: &[],
        notes: "",
        examples: &["help", "help scan"],
        writes: false,
        build: build::help,
    },
];

/// The command called `name`, or by another word for it.
#[must_use]
pub fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|command| command.name == name || command.aliases.contains(&name))
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
