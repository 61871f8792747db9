//! The text form of answers: for people, and for pipes that want a value and nothing else.
//!
//! On a terminal keys and values are escaped, so that no stored byte can move the cursor, ring the bell or hide text.
//! Into a pipe they go as they are. What is an answer goes to standard output; what only explains it is a note, for
//! standard error.

use std::fmt::Write as _;

use kv_client::{LeaseInfo, Members};

use crate::answer::{Answer, DURABILITY, Entry, Event, Hashes, Measured, Node, Page, Status, Step};
use crate::words::quote;

/// A rendered answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// For standard output.
    pub out: Vec<u8>,
    /// For standard error; empty if there is nothing to explain.
    pub note: String,
}

impl Text {
    fn line(text: String) -> Self {
        Self { out: (text + "\n").into_bytes(), note: String::new() }
    }

    fn note(note: impl Into<String>) -> Self {
        Self { out: Vec::new(), note: note.into() }
    }
}

/// Renders `answer`; `is_terminal` says whether standard output is one.
#[must_use]
pub fn render(answer: &Answer, is_terminal: bool) -> Text {
    match answer {
        Answer::Get { found: Some(found), raw: true, .. } => Text { out: found.value.clone(), note: String::new() },
        Answer::Get { found: None, raw: true, .. } => Text::default(),
        Answer::Get { found: Some(found), .. } => {
            let mut out = shown(&found.value, is_terminal);
            out.push(b'\n');
            Text { out, note: String::new() }
        }
        Answer::Get { key, found: None, .. } => Text::note(format!("not found: {}", quote(key))),
        Answer::Set { set: true, revision } => Text::line(format!("set, revision {revision}")),
        Answer::Set { set: false, revision } => Text::line(format!("not set, the key exists; revision {revision}")),
        Answer::Deleted { deleted, revision } => Text::line(format!("deleted {deleted}, revision {revision}")),
        Answer::Swapped { swapped: true, revision } => Text::line(format!("swapped, revision {revision}")),
        Answer::Swapped { swapped: false, revision } => {
            Text::line(format!("not swapped, the value is another; revision {revision}"))
        }
        Answer::Incremented { value, .. } => Text::line(value.to_string()),
        Answer::Scanned(page) => render_page(page, is_terminal),
        Answer::Transacted { succeeded, results, revision } => {
            render_transaction(*succeeded, results, *revision, is_terminal)
        }
        Answer::Watching { revision } => Text::note(format!("watching, at revision {revision}")),
        Answer::Event(event) => render_event(event, is_terminal),
        Answer::Told => Text::default(),
        Answer::Leased { id, ttl_ms, .. } => Text::line(format!("lease {id}, {ttl_ms} ms")),
        Answer::Revoked { deleted, revision, .. } => {
            Text::line(format!("revoked, {deleted} keys deleted, revision {revision}"))
        }
        Answer::Leases { leases, .. } => render_leases(leases),
        Answer::Status(status) => render_status(status),
        Answer::Leader { leader, term } => Text::line(format!("node {leader} leads, term {term}")),
        Answer::Members(members) => Text::line(render_members(members)),
        Answer::Hashes(hashes) => render_hashes(hashes),
        Answer::Bench(measured) => render_bench(measured),
        Answer::Help(text) => Text { out: text.clone().into_bytes(), note: String::new() },
    }
}

fn render_transaction(succeeded: bool, results: &[Step], revision: u64, is_terminal: bool) -> Text {
    let mut text = Text::default();
    for step in results {
        match step {
            Step::Get { found: Some(found), .. } => {
                text.out.extend(shown(&found.value, is_terminal));
                text.out.push(b'\n');
            }
            Step::Get { key, found: None } => text.out.extend(format!("not found: {}\n", quote(key)).into_bytes()),
            Step::Set => text.out.extend(b"set\n"),
            Step::Deleted { deleted, more } => {
                let left = if *more { ", and there are more" } else { "" };
                text.out.extend(format!("deleted {deleted}{left}\n").into_bytes());
            }
            Step::Scanned { items, .. } => items.iter().for_each(|item| push_entry(&mut text.out, item, is_terminal)),
        }
    }
    let outcome = if succeeded { "done" } else { "conditions not met, did the `else`" };
    text.out.extend(format!("{outcome}, revision {revision}\n").into_bytes());
    text
}

/// `13 set a 1`, and behind a tab the value before.
fn render_event(event: &Event, is_terminal: bool) -> Text {
    let mut out = format!("{} {} ", event.revision, if event.value.is_some() { "set" } else { "del" }).into_bytes();
    out.extend(shown(&event.key, is_terminal));
    for value in [&event.value, &event.previous].into_iter().flatten() {
        out.push(b'\t');
        out.extend(shown(value, is_terminal));
    }
    out.push(b'\n');
    Text { out, note: String::new() }
}

fn render_leases(leases: &[LeaseInfo]) -> Text {
    if leases.is_empty() {
        return Text::note("no leases");
    }
    let mut rows = vec![["lease", "ttl ms", "left ms", "keys"].map(str::to_owned)];
    rows.extend(leases.iter().map(|LeaseInfo { id, ttl_ms, left_ms, keys }| {
        [id.to_string(), ttl_ms.to_string(), left_ms.to_string(), keys.to_string()]
    }));
    Text { out: table(&rows).into_bytes(), note: String::new() }
}

fn render_members(members: &Members) -> String {
    let list = |ids: &[u64]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let learners = if members.learners.is_empty() { "none".to_owned() } else { list(&members.learners) };
    format!("voters {}; learners {learners}", list(&members.voters))
}

fn shown(bytes: &[u8], is_terminal: bool) -> Vec<u8> {
    if is_terminal { escape(bytes).into_bytes() } else { bytes.to_vec() }
}

/// `bytes` as text that a terminal prints and does not obey: control characters, marks that turn the direction of
/// writing, bytes that are no UTF-8 and the backslash itself are written as escapes.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' | '\n' | '\t' | '\r' => escaped.extend(character.escape_default()),
                other => push_harmless(&mut escaped, other),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// A message of ours or of a server, which is text already: as it is, but for what a terminal would obey.
pub(crate) fn harmless(message: &str) -> String {
    let mut harmless = String::with_capacity(message.len());
    for character in message.chars() {
        push_harmless(&mut harmless, character);
    }
    harmless
}

fn push_harmless(text: &mut String, character: char) {
    if character.is_control() || is_direction_mark(character) {
        text.extend(character.escape_unicode());
    } else {
        text.push(character);
    }
}

const fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_entry(out: &mut Vec<u8>, item: &Entry, is_terminal: bool) {
    out.extend(shown(&item.key, is_terminal));
    if let Some(value) = &item.value {
        out.push(b'\t');
        out.extend(shown(value, is_terminal));
    }
    out.push(b'\n');
}

fn render_page(page: &Page, is_terminal: bool) -> Text {
    let mut text = Text::default();
    for item in &page.items {
        push_entry(&mut text.out, item, is_terminal);
    }
    if let Some(next) = &page.next {
        text.note = format!("more: repeat with --from {}", quote(next));
    }
    text
}

fn render_status(status: &Status) -> Text {
    let or_none = |text: Option<&String>| harmless(text.map_or("none", String::as_str));
    let mut out = format!("cluster  {}\n", or_none(status.cluster.as_ref()));
    let leader = status.leader.map_or_else(|| "none".to_owned(), |id| format!("node {id}"));
    let _ = writeln!(out, "leader   {leader}, term {}", status.term);
    if let Some((term, reason)) = &status.last_change {
        let _ = writeln!(out, "changed  in term {term}: {}", harmless(reason));
    }
    let mut rows = vec![["node", "address", "role", "term", "commit", "applied", "revision"].map(str::to_owned)];
    rows.extend(status.nodes.iter().map(status_row));
    out.push_str(&table(&rows));
    Text { out: out.into_bytes(), note: String::new() }
}

fn status_row(node: &Node) -> [String; 7] {
    let address = node.address.as_deref().map_or_else(|| "unknown".to_owned(), harmless);
    let id = node.id.to_string();
    let Some(state) = &node.state else {
        return [id, address, "unreachable".into(), String::new(), String::new(), String::new(), String::new()];
    };
    [
        id,
        address,
        harmless(&state.role),
        state.term.to_string(),
        state.commit_index.to_string(),
        state.applied_index.to_string(),
        state.revision.to_string(),
    ]
}

/// Columns, each as wide as its widest cell.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn render_hashes(hashes: &Hashes) -> Text {
    let mut out = format!("revision {}\n", hashes.revision);
    for (id, hash) in &hashes.hashes {
        let _ = writeln!(out, "node {id}  {}", hash.as_deref().unwrap_or("no answer in time"));
    }
    let unanswered = hashes.hashes.iter().any(|(_, hash)| hash.is_none());
    out.push_str(match (hashes.equal, unanswered) {
        (true, _) => "equal\n",
        (false, true) => "not known to be equal\n",
        (false, false) => "NOT EQUAL\n",
    });
    Text { out: out.into_bytes(), note: String::new() }
}

fn render_bench(measured: &Measured) -> Text {
    let Measured { ops_per_s, p50_us, p90_us, p99_us, p999_us, max_us, errors, first_error } = measured;
    let text = Text::line(format!(
        "{ops_per_s} operations a second, {errors} errors\n\
         latency in us: p50 {p50_us}, p90 {p90_us}, p99 {p99_us}, p99.9 {p999_us}, max {max_us}\n\
         a write is acknowledged after {DURABILITY}"
    ));
    let note = first_error.as_ref().map(|error| format!("first error: {}", harmless(error)));
    Text { note: note.unwrap_or_default(), ..text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{NodeState, Value};

    fn got(value: &[u8], raw: bool) -> Answer {
        let found = Value { value: value.into(), create_revision: 1, mod_revision: 1, version: 1 };
        Answer::Get { key: b"k".into(), found: Some(found), revision: 1, raw }
    }

    #[test]
    fn a_terminal_sees_escapes_and_a_pipe_the_bytes() {
        let value = "\u{1b}[2Jä\u{202e}\\\n\u{9b}".as_bytes();
        let text = render(&got(value, false), true);
        assert_eq!(String::from_utf8(text.out).unwrap(), "\\u{1b}[2Jä\\u{202e}\\\\\\n\\u{9b}\n");
        assert_eq!(render(&got(value, false), false).out, [value, b"\n"].concat());
        assert_eq!(render(&got(b"\xff\x00", false), true).out, b"\\xff\\u{0}\n");
    }

    #[test]
    fn raw_is_the_value_and_nothing_else() {
        assert_eq!(render(&got(b"\x1b\xff", true), true).out, b"\x1b\xff");
        let absent = Answer::Get { key: b"k".into(), found: None, revision: 1, raw: true };
        assert_eq!(render(&absent, true), Text::default());
    }

    #[test]
    fn an_absent_key_leaves_standard_output_empty() {
        let absent = Answer::Get { key: b"a b".into(), found: None, revision: 1, raw: false };
        assert_eq!(render(&absent, false), Text { out: vec![], note: "not found: 'a b'".into() });
    }

    #[test]
    fn a_page_says_how_to_go_on() {
        let items = vec![Entry { key: b"a".into(), value: Some(b"1".into()), mod_revision: 1 }];
        let text = render(&Answer::Scanned(Page { items, next: Some(b"b c".into()), revision: 1 }), false);
        assert_eq!((text.out.as_slice(), text.note.as_str()), (&b"a\t1\n"[..], "more: repeat with --from 'b c'"));
    }

    #[test]
    fn status_is_a_table() {
        let state = NodeState { role: "leader".into(), term: 7, commit_index: 90, applied_index: 90, revision: 80 };
        let nodes = vec![
            Node { id: 1, address: Some("127.0.0.1:7001".into()), state: Some(state) },
            Node { id: 2, address: None, state: None },
        ];
        let status = Status {
            cluster: Some("ab".into()),
            leader: Some(1),
            term: 7,
            last_change: Some((7, "first election".into())),
            nodes,
        };
        let expected = "\
cluster  ab
leader   node 1, term 7
changed  in term 7: first election
node  address         role         term  commit  applied  revision
1     127.0.0.1:7001  leader       7     90      90       80
2     unknown         unreachable
";
        assert_eq!(String::from_utf8(render(&Answer::Status(status), true).out).unwrap(), expected);
    }
}
