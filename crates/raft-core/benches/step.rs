//! What a write costs the protocol at the leader of three: a proposal of one command, its own disk, the answer of a
//! follower, the commit. With logs of a thousand to a million entries, and with none to ten thousand reads that wait.
//!
//! `cargo bench -p raft-core`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails may panic")]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::{
    AppendResult, Body, ClusterTime, Config, Configuration, DiskId, Effect, Entry, HardState, Incarnation, Input,
    Instant, LogIndex, LogPosition, Member, Message, NodeId, Payload, Poll, ProposalId, Raft, ReadId, Restored, Term,
    Verdict, WriteNumber,
};

/// How many writes are timed together: so few that the log stays about as long as it was.
const WRITES: u64 = 1_000;

fn n(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

/// A leader, and how much it has been told.
#[derive(Clone)]
struct Leader {
    raft: Raft,
    now: Instant,
    written: WriteNumber,
    effects: Vec<Effect>,
}

impl Leader {
    /// The leader of term 2, whose log has `entries` entries and the no-op of its term, all of them committed.
    fn new(entries: u64) -> Self {
        let command = Payload::Command(Bytes::from_static(&[7; 128]));
        let entry = |index| {
            let position = LogPosition::new(Term(1), LogIndex(index));
            Entry { position, stamp: ClusterTime(0), payload: command.clone() }
        };
        let member = |id| (n(id), Member { disk: DiskId(u128::from(id)), address: format!("n{id}:1") });
        let restored = Restored {
            hard_state: HardState { term: Term(1), voted_for: None },
            initial: Configuration::of_voters((1..=3).map(member)),
            entries: (1..=entries).map(entry).collect(),
            ..Restored::default()
        };
        let mut config = Config::new(n(1), DiskId(1), Incarnation(1), 1);
        config.max_uncommitted_bytes = 1 << 40;
        let raft = Raft::new(config, restored, Instant(0)).unwrap();
        let mut leader = Self { now: raft.next_wakeup(), raft, written: WriteNumber(0), effects: Vec::new() };
        leader.step(Input::Tick);
        leader.hear(1, Body::PreVoteReply { poll: Poll(1), verdict: Verdict::Granted });
        leader.hear(2, Body::RequestVoteReply { verdict: Verdict::Granted });
        leader.acknowledge();
        assert_eq!(leader.raft.commit_index(), LogIndex(entries + 1));
        leader
    }

    /// Takes an input; what it writes is on the disk at once.
    fn step(&mut self, input: Input) {
        self.raft.step(self.now, input, &mut self.effects);
        for effect in &self.effects {
            if let Effect::Write(write) = effect {
                self.written = write.number;
            }
        }
        self.effects.clear();
        self.raft.step(self.now, Input::Persisted(self.written), &mut self.effects);
        self.effects.clear();
    }

    fn hear(&mut self, term: u64, body: Body) {
        let message = Message { term: Term(term), body };
        self.step(Input::Message { from: n(2), disk: DiskId(2), incarnation: Incarnation(1), message });
    }

    /// n2 has all of the log on its disk.
    fn acknowledge(&mut self) {
        self.hear(2, Body::AppendEntriesReply(AppendResult::Matched(self.raft.log().last_index())));
    }

    /// Takes a command, to the commit.
    fn write(&mut self, number: u64) {
        self.step(Input::Propose { id: ProposalId(number), commands: vec![Bytes::from_static(&[7; 128])] });
        self.acknowledge();
    }
}

fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a_write_at_the_leader");
    group.throughput(Throughput::Elements(WRITES)).sample_size(30);
    let mut run = |name: &str, size: u64, leader: &Leader| {
        let write_all = |mut leader: Leader| {
            (0..WRITES).for_each(|number| leader.write(number));
            leader
        };
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            bencher.iter_batched(|| leader.clone(), write_all, BatchSize::PerIteration);
        });
    };
    for entries in [1_000, 100_000, 1_000_000] {
        run("log_of_entries", entries, &Leader::new(entries));
    }
    for reads in [0, 100, 10_000] {
        let mut leader = Leader::new(1_000);
        (0..reads).for_each(|read| leader.step(Input::Read { id: ReadId(read) }));
        run("waiting_reads", reads, &leader);
    }
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
