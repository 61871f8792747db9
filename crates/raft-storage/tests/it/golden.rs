//! Bytes written by version 1 of each format. They are decoded for ever (rule 11): a change that makes this fail needs
//! a new version and a new fixture beside these.

use bytes::Bytes;
use raft_core::{
    ClusterId, ClusterTime, Configuration, DiskId, Entry, HardState, Incarnation, Learner, LogIndex, LogPosition,
    Member, Payload, Snapshot, Standing, Term, Write, WriteNumber,
};
use raft_storage::{Contents, Formation, Identity, MemDisk, Snapshots, Storage, read_log};

use crate::common::{FIRST_SEGMENT, SECOND_SEGMENT, node, small_segments};

const FIXTURES: [(&str, &str); 5] = [
    ("identity", include_str!("golden/identity.v1.hex")),
    ("formation", include_str!("golden/formation.v1.hex")),
    ("hard-state", include_str!("golden/hard-state.v1.hex")),
    (FIRST_SEGMENT, include_str!("golden/log-1.v1.hex")),
    (SECOND_SEGMENT, include_str!("golden/log-2.v1.hex")),
];

const DISK: DiskId = DiskId(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);

fn configuration() -> Configuration {
    let member = |disk, address: &str| Member { disk: DiskId(disk), address: address.to_owned() };
    let members = [(node(1), member(DISK.0, "10.0.0.1:7001")), (node(2), member(77, "[::1]:7002"))];
    Configuration::of_voters(members)
}

fn entry(term: u64, index: u64, stamp: u64, payload: Payload) -> Entry {
    Entry { position: LogPosition::new(Term(term), LogIndex(index)), stamp: ClusterTime(stamp), payload }
}

fn expected() -> Contents {
    Contents {
        identity: Identity { node: node(1), disk: DISK },
        formation: Some(Formation { cluster: ClusterId(0xc0ffee), configuration: configuration(), formed: true }),
        hard_state: HardState { term: Term(4), voted_for: node(3).into() },
        incarnation: Incarnation(1),
        snapshot: None,
        base: LogPosition::ORIGIN,
        entries: vec![
            entry(1, 1, 10, Payload::Noop),
            entry(1, 2, 20, Payload::Command(Bytes::from_static(b"a command"))),
            entry(3, 3, 30, Payload::Configuration(configuration())),
            entry(4, 4, u64::MAX, Payload::Command(Bytes::from(vec![0xee; 3_000]))),
        ],
        torn: None,
    }
}

/// The disk of a server that wrote what is expected, with a truncation, an empty batch and a second segment.
fn written_today() -> MemDisk {
    let disk = MemDisk::new();
    let mut ids =
        [DISK.0, 0x1111_2222_3333_4444_5555_6666_7777_8888, 0x9999_aaaa_bbbb_cccc_dddd_eeee_ffff_0001].into_iter();
    let mut options = small_segments(1, 4096);
    options.random = Box::new(move || ids.next().unwrap());
    let (mut storage, _) = Storage::open(disk.clone(), options).unwrap();
    let Contents { formation, hard_state, entries, .. } = expected();
    storage.write_formation(formation.unwrap()).unwrap();
    let write = |number, term, truncate_from: Option<u64>, entries: &[Entry]| Write {
        number: WriteNumber(number),
        hard_state: Some(HardState { term: Term(term), voted_for: None }),
        restart_after: None,
        truncate_from: truncate_from.map(LogIndex),
        entries: entries.to_vec(),
    };
    let forgotten = entry(1, 3, 25, Payload::Noop);
    storage.append(&[write(1, 1, None, &entries[..2]), write(2, 1, None, &[forgotten])]).unwrap();
    storage.append(&[write(3, 3, Some(3), &entries[2..3])]).unwrap();
    storage.mark_idle().unwrap();
    storage.append(&[Write { hard_state: Some(hard_state), ..write(4, 4, None, &entries[3..]) }]).unwrap();
    disk
}

/// One line for each 32 bytes that are not all zeros, and one for the size.
fn to_hex(bytes: &[u8]) -> String {
    let mut lines = String::new();
    for (row, chunk) in bytes.chunks(32).enumerate() {
        if chunk.iter().any(|&byte| byte != 0) {
            let hex: String = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push_str(&format!("{:06x} {hex}\n", row * 32));
        }
    }
    lines.push_str(&format!("{:06x}\n", bytes.len()));
    lines
}

fn from_hex(lines: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.lines() {
        let (offset, hex) = line.split_once(' ').unwrap_or((line, ""));
        bytes.resize(usize::from_str_radix(offset, 16).unwrap(), 0);
        bytes.extend((0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()));
    }
    bytes
}

#[test]
fn what_version_1_wrote_is_read() {
    let disk = MemDisk::new();
    for (name, hex) in FIXTURES {
        disk.set_contents(name, from_hex(hex));
    }
    assert_eq!(read_log(disk).unwrap(), expected());
}

#[test]
fn version_1_is_still_what_is_written() {
    let disk = written_today();
    for (name, hex) in FIXTURES {
        assert_eq!(to_hex(&disk.contents(name).unwrap()), hex, "{name} is written differently");
    }
}

// --- a newcomer that was sent a snapshot ------------------------------------------------------------------------------

const SNAPSHOT: &str = "snapshot-00000000000000000009-00000000000000000004";

/// The same disk's first life otherwise: it joined, and its log begins anew after a leader's snapshot.
const NEWCOMER: [(&str, &str); 5] = [
    ("identity", include_str!("golden/identity.v1.hex")),
    ("formation", include_str!("golden/formation-joined.v1.hex")),
    ("hard-state", include_str!("golden/hard-state-joined.v1.hex")),
    (FIRST_SEGMENT, include_str!("golden/log-restarted.v1.hex")),
    (SNAPSHOT, include_str!("golden/snapshot.v1.hex")),
];

/// A configuration with every standing there is.
fn joint_configuration() -> Configuration {
    let member = |disk: u128| Member { disk: DiskId(disk), address: format!("h{disk}:7001") };
    let learner = Learner { member: member(9), becomes_voter: true };
    let standings = [
        Standing::Voter,
        Standing::Incoming,
        Standing::Outgoing { then: None },
        Standing::Outgoing { then: Some(learner) },
        Standing::Learner { becomes_voter: false },
        Standing::Learner { becomes_voter: true },
    ];
    let members = (1..).zip(standings).map(|(id, standing)| (node(id), (member(u128::from(id)), standing)));
    Configuration::new(members.collect()).unwrap()
}

fn newcomer() -> Contents {
    let last = LogPosition::new(Term(4), LogIndex(9));
    Contents {
        formation: Some(Formation {
            cluster: ClusterId(0xc0ffee),
            configuration: Configuration::default(),
            formed: true,
        }),
        hard_state: HardState { term: Term(5), voted_for: None },
        snapshot: Some(Snapshot {
            last,
            stamp: ClusterTime(90),
            configuration: joint_configuration(),
            configuration_index: LogIndex(8),
        }),
        base: last,
        entries: vec![entry(5, 10, 100, Payload::Command(Bytes::from_static(b"after it")))],
        ..expected()
    }
}

fn newcomer_written_today() -> MemDisk {
    let disk = MemDisk::new();
    let mut ids = [DISK.0, 0x2222_3333_4444_5555_6666_7777_8888_9999].into_iter();
    let mut options = small_segments(1, 4096);
    options.random = Box::new(move || ids.next().unwrap());
    let (mut storage, _) = Storage::open(disk.clone(), options).unwrap();
    let Contents { formation, hard_state, snapshot, base, entries, .. } = newcomer();
    storage.write_formation(formation.unwrap()).unwrap();
    let mut files = Snapshots::new(disk.clone(), storage.identity());
    let mut writer = files.begin(&snapshot.unwrap()).unwrap();
    writer.append(b"the state, ").unwrap();
    writer.append(b"in two pieces").unwrap();
    files.finish(writer).unwrap();
    let write = Write {
        number: WriteNumber(1),
        hard_state: Some(hard_state),
        restart_after: Some(base),
        truncate_from: None,
        entries,
    };
    storage.append(&[write]).unwrap();
    disk
}

#[test]
fn what_version_1_wrote_of_a_snapshot_is_read() {
    let disk = MemDisk::new();
    for (name, hex) in NEWCOMER {
        disk.set_contents(name, from_hex(hex));
    }
    let contents = read_log(disk.clone()).unwrap();
    assert_eq!(contents, newcomer());
    let mut data = Snapshots::new(disk, contents.identity).open_data(contents.base).unwrap();
    let mut state = Vec::new();
    while let Some(chunk) = data.next_chunk().unwrap() {
        state.extend(chunk);
    }
    assert_eq!(state, b"the state, in two pieces");
}

#[test]
fn version_1_of_a_snapshot_is_still_what_is_written() {
    let disk = newcomer_written_today();
    for (name, hex) in NEWCOMER {
        assert_eq!(to_hex(&disk.contents(name).unwrap()), hex, "{name} is written differently");
    }
}
