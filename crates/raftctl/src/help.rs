//! The text of `help`, made from the table of commands.

use std::fmt::Write as _;

use crate::parse::usage_line;
use crate::table::{self, COMMANDS, CommandSpec};

/// Explains `topic`, or lists all commands.
#[must_use]
pub fn text(topic: Option<&str>) -> String {
    match topic.and_then(table::find) {
        Some(spec) => command(spec),
        None => overview(),
    }
}

/// The list of commands, and what holds for all of them.
#[must_use]
pub fn overview() -> String {
    let mut text = String::new();
    for spec in COMMANDS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:7} {}", spec.name, spec.summary);
    }
    text.push_str(
        "\n`help COMMAND` shows its flags and examples.\n\
         Words are quoted as in a shell; $'\\x00' names any byte; `--` ends flags.\n",
    );
    text
}

fn command(spec: &CommandSpec) -> String {
    let mut text = format!("{}\n    {}\n", usage_line(spec), spec.summary);
    if !spec.flags.is_empty() {
        text.push_str("\nFlags:\n");
    }
    for flag in spec.flags {
        let name = format!("{} {}", flag.name, flag.value.unwrap_or_default());
        let _ = writeln!(text, "    {name:18}{}", flag.summary);
    }
    if !spec.aliases.is_empty() {
        let _ = write!(text, "\nAlso called {}.\n", spec.aliases.join(", "));
    }
    if !spec.notes.is_empty() {
        let _ = write!(text, "\n{}\n", spec.notes);
    }
    if !spec.examples.is_empty() {
        text.push_str("\nExamples:\n");
    }
    for example in spec.examples {
        let _ = writeln!(text, "    {example}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_and_explained() {
        let overview = overview();
        for spec in COMMANDS {
            assert!(overview.contains(spec.name), "{}", spec.name);
            let explained = text(Some(spec.name));
            assert!(explained.starts_with(spec.name) && explained.contains(spec.summary), "{explained}");
            for flag in spec.flags {
                assert!(explained.contains(flag.name), "{explained}");
            }
        }
    }

    #[test]
    fn a_page_of_help_reads_like_this() {
        let expected = "\
incr KEY [BY]
    add BY (1 unless given) to a decimal integer

A missing key counts as 0. A negative BY stands after `--`.

Examples:
    incr visits
    incr visits 10
    incr stock -- -3
";
        assert_eq!(text(Some("incr")), expected);
    }
}
