//! One run from beginning to end: safety under faults, then everything heals and the cluster must live.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use kv_store::api::RequestErrorKind;
use kv_store::{Command, Query};

use crate::checkers::convergence::check_agreed;
use crate::checkers::{Verdict, Violation};
use crate::coverage::{Count, Coverage};
use crate::node::{Fate, Node};
use crate::scenario::Scenario;
use crate::time::{MILLIS, SECONDS, Time};
use crate::workload::Request;
use crate::world::{World, place_of};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) violation: Option<Violation>,
    pub(crate) coverage: Coverage,
    /// Equal for equal runs.
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) simulated: Time,
    /// How many operations clients have begun.
    pub(crate) operations: u64,
    pub(crate) lines: Vec<String>,
}

/// How long an election or an operation may take once all faults have ended: ten of the longest election timeouts, and the
/// time that connections and restarts take besides.
fn patience(scenario: &Scenario) -> Time {
    20 * scenario.settings.election_timeout_ms * MILLIS + 5 * SECONDS
}

/// How long the cluster may take to agree: the same, and a snapshot that goes chunk by chunk over a slow link.
fn patience_to_agree(world: &World) -> Time {
    let settings = &world.scenario.settings;
    let chunks = world.largest_snapshot.div_ceil(settings.snapshot_chunk_bytes as u64);
    // One thread of the leader reads the chunks for all.
    let turn = world.nodes.len() as u64 * (settings.disk_latency + settings.disk_jitter);
    patience(&world.scenario) + chunks * (world.longest_exchange() + turn)
}

/// How long clients may take for what they had left to do.
const MOST_TO_FINISH: Time = 120 * SECONDS;

/// Plays a scenario. A failed assertion of the servers is a violation like any other.
pub(crate) fn play(scenario: &Scenario, keeps_lines: bool) -> Ended {
    let mut world = World::new(scenario.clone(), keeps_lines);
    let outcome = catch_unwind(AssertUnwindSafe(|| play_phases(&mut world)));
    if let Err(panic) = outcome {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        world.judge(Err(Violation::new("No assertion fails", what.to_owned())));
    }
    let left: u64 = world.clients.iter().map(|client| client.operations_left).sum();
    let share = world.scenario.operations.div_ceil(world.scenario.clients as u64);
    let World { violation, coverage, trace, now, clients, .. } = world;
    Ended {
        violation,
        coverage,
        digest: trace.digest(),
        events: trace.events,
        simulated: now,
        operations: share * clients.len() as u64 - left,
        lines: trace.into_lines(),
    }
}

fn play_phases(world: &mut World) {
    world.run_until(world.scenario.heal_at);
    if world.violation.is_some() {
        return;
    }
    world.stop_clients();
    world.heal();
    converge(world);
    serve(world);
    if world.scenario.seed % 4 == 1 {
        hand_around(world);
    }
    if world.scenario.seed.is_multiple_of(8) {
        deafen_leader(world);
    }
    finish(world);
    if world.violation.is_none() {
        judge_the_whole(world);
    }
}

/// All faults are over, and nobody asks for anything: the servers must come to agree.
fn converge(world: &mut World) {
    let begin = world.now;
    let limit = begin + patience_to_agree(world);
    let step = (world.scenario.settings.election_timeout_ms * MILLIS / 2).max(50 * MILLIS);
    loop {
        world.run_until(world.now + step);
        if world.violation.is_some() {
            return;
        }
        let checkers = &world.checkers;
        let agreed = check_agreed(&world.nodes, &checkers.ledger, checkers.membership.last_committed());
        match agreed.and_then(|()| world.check_watched()) {
            Ok(()) => {
                world.coverage.count(Count::Converged);
                return;
            }
            Err(what) if world.now >= limit => {
                let waited = (world.now - begin) / MILLIS;
                world.judge(Err(Violation::new("Convergence", format!("{waited} ms after healing {what}"))));
                return;
            }
            Err(_) => {}
        }
    }
}

/// The members whose disks are there, by place: voters and learners.
fn members(world: &World) -> Vec<usize> {
    let configuration = world.checkers.membership.last_committed();
    let is_member = |node: &Node| configuration.is_some_and(|configuration| configuration.member(node.id).is_some());
    let places = (0..world.nodes.len()).filter(|&place| world.node(place).fate == Fate::Sound);
    places.filter(|&place| is_member(world.node(place))).collect()
}

/// The voters, by place, whether their disks are there or not.
fn voters(world: &World) -> Vec<usize> {
    let configuration = world.checkers.membership.last_committed();
    configuration.map(|configuration| configuration.voters().map(place_of).collect()).unwrap_or_default()
}

/// Every member with a sound disk takes a write and a read.
fn serve(world: &mut World) {
    for node in members(world) {
        let key = Bytes::from_static(b"served");
        let write = Command::Increment { key: key.clone(), by: 1 };
        let read = Query::Get { key: key.clone() };
        for request in [Request::Write(write), Request::Read(read)] {
            if world.violation.is_some() {
                return;
            }
            let end = world.now + patience(&world.scenario);
            world.begin(0, request, key.clone(), end - world.now, false, Some(node));
            while world.now < end
                && world.clients.first().is_some_and(|client| !client.is_idle())
                && world.violation.is_none()
            {
                world.run_until(world.now + 20 * MILLIS);
            }
            if !world.clients.first().is_some_and(|client| client.last_was_done) && world.violation.is_none() {
                let what = format!("n{} does not serve, though all faults have ended", node + 1);
                world.judge(Err(Violation::new("Convergence", what)));
            }
        }
    }
}

/// The leadership goes round: to each server, the lost ones included, asked for at any. In a healthy cluster that is fast
/// enough each living one gets it at the first word; and a dead one that is named holds nothing up for long.
fn hand_around(world: &mut World) {
    // A link that was slow until now keeps its order: what is sent on it waits for what is still on its way.
    world.run_until(world.now + 2 * SECONDS);
    let is_fast = world.longest_transfer() < world.scenario.settings.election_timeout_ms * MILLIS / 2;
    let voters = voters(world);
    let sound: Vec<usize> = members(world).into_iter().filter(|place| voters.contains(place)).collect();
    let lost = voters.iter().copied().filter(|place| !sound.contains(place));
    let round: Vec<usize> = sound.iter().copied().chain(lost).collect();
    for (place, &to) in round.iter().enumerate() {
        let Some(&asked) = sound.get(place % sound.len()) else { return };
        let end = world.now + patience(&world.scenario);
        world.ask_for_transfer(asked, Some(to), end - world.now);
        while world.now < end && world.operator.answer.is_none() && world.violation.is_none() {
            world.run_until(world.now + 20 * MILLIS);
            // A server that has not heard of the last change yet says so, and is asked again.
            if let Some(Err(RequestErrorKind::NoLeader | RequestErrorKind::LeaderChanged)) = world.operator.answer {
                world.ask_for_transfer(asked, Some(to), end - world.now);
            }
        }
        if world.violation.is_some() {
            return;
        }
        let answer = world.operator.answer;
        let is_there = answer.is_some_and(|answer| answer.is_ok());
        if answer.is_none() || (is_fast && is_there != sound.contains(&to)) {
            let what = format!("n{}, asked to hand over to n{}, says {answer:?}", asked + 1, to + 1);
            world.judge(Err(Violation::new("The leadership is handed over", what)));
        }
    }
    world.coverage.count(Count::HandedAround);
    serve(world);
}

/// A leader is heard by everybody and hears nobody, for good. PreVote alone would let it lead for ever (rule 12): it must
/// step down, and the others must serve.
fn deafen_leader(world: &mut World) {
    let Some(leader) = world.leader().filter(|_| world.violation.is_none()) else { return };
    let voters = voters(world);
    let sound = voters.iter().filter(|&&place| world.node(place).fate == Fate::Sound).count();
    if (sound - 1) * 2 <= voters.len() {
        return;
    }
    world.coverage.count(Count::DeafLeader);
    for other in (0..world.nodes.len()).filter(|&other| other != leader) {
        world.network.cut(other, leader);
    }
    let limit = world.now + patience(&world.scenario);
    while world.violation.is_none() && world.leader().is_none_or(|now| now == leader) {
        if world.now >= limit {
            let what = format!("n{} hears nobody, and no other leads", leader + 1);
            world.judge(Err(Violation::new("Convergence", what)));
        }
        world.run_until(world.now + 50 * MILLIS);
    }
    world.network.heal();
    world.release_held_back();
    converge(world);
    serve(world);
}

/// Clients do what the faults kept them from; a healthy cluster lets them.
fn finish(world: &mut World) {
    world.resume_clients();
    let limit = world.now + MOST_TO_FINISH;
    let has_more = |world: &World| world.clients.iter().any(|client| client.operations_left > 0 || !client.is_idle());
    while world.violation.is_none() && has_more(world) {
        if world.now >= limit {
            let what = "clients cannot finish, though all faults have ended".to_owned();
            world.judge(Err(Violation::new("Convergence", what)));
        }
        world.run_until(world.now + 100 * MILLIS);
    }
}

/// What can be said at the end only.
fn judge_the_whole(world: &mut World) {
    // Answers that are on their way arrive, and requests whose time is over are answered.
    world.run_until(world.now + 6 * SECONDS);
    let as_property = |property| move |what| Violation::new(property, what);
    let checkers = &mut world.checkers;
    let once = checkers.exactly_once.check_at_end(&checkers.ledger);
    let linearizable = checkers.linearizable.check(&mut world.coverage);
    let answered = checkers.answers.check_none_left();
    let recomputed = check_hashes(world);
    world.judge(once.map_err(as_property("Exactly once, and nothing acknowledged is lost")));
    world.judge(linearizable.map_err(as_property("Linearizability")));
    world.judge(answered.map_err(as_property("Every request is answered once")));
    world.judge(recomputed.map_err(as_property("Equal state at equal index")));
}

/// The hash that is kept at each change is that of the state.
fn check_hashes(world: &World) -> Verdict {
    let reference = world.checkers.ledger.reference();
    if reference.recompute_hash() == reference.state_hash() {
        return Ok(());
    }
    Err("the hash of the state is not that of its keys".to_owned())
}
