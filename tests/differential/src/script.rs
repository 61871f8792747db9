//! Scripts: what happens to a cluster, one event after the other, to both implementations alike.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

use crate::twins::Twins;
use crate::view::Role;

/// Something that happens. One that cannot happen where it stands, as a proposal to a server that does not lead, does
/// nothing, so that a script stays one when events are taken out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// This server has heard no leader for long, and stands (§3.4).
    Campaign(u64),
    /// A leader takes a command.
    Propose(u64, Bytes),
    /// A leader that reaches a majority makes itself heard, twice.
    Beat(u64),
    /// A leader that reaches a majority, and this server, hands over to it (§3.10).
    Transfer(u64, u64),
    /// A server is killed and started again with what its disk holds.
    Restart(u64),
    /// The link between the two breaks.
    Cut(u64, u64),
    /// The links of these to all others break.
    Part(BTreeSet<u64>),
    /// All links are whole again.
    Heal,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign(id) => write!(f, "n{id} stands"),
            Self::Propose(id, command) => write!(f, "n{id} takes {}", String::from_utf8_lossy(command)),
            Self::Beat(id) => write!(f, "n{id} makes itself heard"),
            Self::Transfer(from, to) => write!(f, "n{from} hands over to n{to}"),
            Self::Restart(id) => write!(f, "n{id} restarts"),
            Self::Cut(one, other) => write!(f, "n{one} and n{other} are cut"),
            Self::Part(side) => write!(f, "{side:?} are cut from the others"),
            Self::Heal => f.write_str("all links are whole"),
        }
    }
}

/// What a seed leads to.
pub(crate) struct Script {
    /// How many servers.
    pub(crate) count: u64,
    pub(crate) events: Vec<Event>,
}

/// What came of a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    /// Leaders elected after the first.
    pub(crate) leader_changes: u64,
    /// Servers that gave up entries for a leader's.
    pub(crate) truncations: u64,
    /// Candidacies of a server one term behind a voter.
    pub(crate) terms_told: u64,
}

impl Tally {
    pub(crate) const fn add(&mut self, other: Self) {
        self.events += other.events;
        self.leader_changes += other.leader_changes;
        self.truncations += other.truncations;
        self.terms_told += other.terms_told;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, leader_changes, truncations, terms_told } = self;
        write!(
            f,
            "{events} events, {leader_changes} changes of leader, {truncations} truncations, {terms_told} terms told"
        )
    }
}

/// Where the two part.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The event after which they do.
    pub(crate) event: Event,
    pub(crate) what: String,
}

/// Plays a script to both.
pub(crate) fn play(script: &Script) -> Result<Tally, Difference> {
    let mut twins = Twins::new(script.count);
    for event in &script.events {
        twins.apply(event)?;
    }
    Ok(twins.tally())
}

/// Makes up a script and plays it as it goes: what happens next depends on who leads. Every script has a change of leader
/// and a truncation.
pub(crate) fn make_up(seed: u64) -> (Script, Result<Tally, Difference>) {
    let mut maker = Maker::new(seed);
    let outcome = maker.play();
    let tally = maker.twins.tally();
    (Script { count: maker.count, events: maker.events }, outcome.map(|()| tally))
}

/// Takes out of a script that ends in a difference every event without which it still does.
pub(crate) fn shrink(mut script: Script) -> Script {
    let mut place = script.events.len();
    while place > 0 {
        place -= 1;
        let mut events = script.events.clone();
        events.remove(place);
        let shorter = Script { count: script.count, events };
        if play(&shorter).is_err() {
            script = shorter;
            place = place.min(script.events.len());
        }
    }
    script
}

/// How often an ending is tried that leads to a truncation. Once is enough, unless nobody can be elected at first.
const MOST_ENDINGS: usize = 20;

struct Maker {
    random: Pcg64Mcg,
    count: u64,
    twins: Twins,
    events: Vec<Event>,
    commands: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::new(0x9E37_79B9_7F4A_7C15_u128 * (u128::from(seed) + 1));
        let count = pick(&mut random, &[3, 3, 3, 5, 5, 4, 7]).unwrap_or(3);
        Self { random, count, twins: Twins::new(count), events: Vec::new(), commands: 0 }
    }

    fn play(&mut self) -> Result<(), Difference> {
        for _ in 0..15 + self.below(30) {
            let event = self.next_event();
            self.add(event)?;
        }
        for _ in 0..MOST_ENDINGS {
            let tally = self.twins.tally();
            if tally.leader_changes > 0 && tally.truncations > 0 {
                return Ok(());
            }
            self.truncate()?;
        }
        panic!("no truncation came about in {:?}", self.events);
    }

    fn add(&mut self, event: Event) -> Result<(), Difference> {
        self.events.push(event.clone());
        self.twins.apply(&event)
    }

    /// A leader is left alone with a command of its own; another is elected, and replaces it (§3.5).
    fn truncate(&mut self) -> Result<(), Difference> {
        self.add(Event::Heal)?;
        self.elect(&[])?;
        let Some(old) = self.newest_leader() else { return Ok(()) };
        self.add(Event::Beat(old))?;
        self.add(Event::Part(BTreeSet::from([old])))?;
        let command = self.command();
        self.add(Event::Propose(old, command))?;
        self.elect(&[old])?;
        self.add(Event::Heal)?;
        match self.newest_leader() {
            Some(new) => self.add(Event::Beat(new)),
            None => Ok(()),
        }
    }

    /// Lets servers stand, the most up to date first, until one of those not left out leads.
    fn elect(&mut self, left_out: &[u64]) -> Result<(), Difference> {
        let mut ids: Vec<u64> = (1..=self.count).filter(|id| !left_out.contains(id)).collect();
        ids.sort_by_key(|&id| std::cmp::Reverse(self.twins.view(id).last()));
        for id in ids.clone() {
            if ids.iter().any(|&id| self.twins.view(id).role == Role::Leader) {
                return Ok(());
            }
            self.add(Event::Campaign(id))?;
        }
        Ok(())
    }

    // --- choices -------------------------------------------------------------------------------------------------

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn any_server(&mut self) -> u64 {
        self.below(self.count) + 1
    }

    fn leaders(&self) -> Vec<u64> {
        (1..=self.count).filter(|&id| self.twins.view(id).role == Role::Leader).collect()
    }

    fn newest_leader(&self) -> Option<u64> {
        self.leaders().into_iter().max_by_key(|&id| self.twins.view(id).term)
    }

    /// Some leader, mostly; an old one may still take itself for one.
    fn any_leader(&mut self) -> u64 {
        let leaders = self.leaders();
        pick(&mut self.random, &leaders).unwrap_or_else(|| self.any_server())
    }

    fn command(&mut self) -> Bytes {
        self.commands += 1;
        Bytes::from(format!("c{}", self.commands))
    }

    fn next_event(&mut self) -> Event {
        let has_leader = !self.leaders().is_empty();
        match self.below(100) {
            0..=14 => Event::Campaign(self.any_server()),
            _ if !has_leader && self.below(2) == 0 => Event::Campaign(self.any_server()),
            15..=49 => {
                let leader = self.any_leader();
                Event::Propose(leader, self.command())
            }
            50..=61 => Event::Beat(self.any_leader()),
            62..=66 => Event::Transfer(self.any_leader(), self.any_server()),
            67..=72 => Event::Restart(self.any_server()),
            73..=79 => Event::Cut(self.any_server(), self.any_server()),
            80..=84 => Event::Part(BTreeSet::from([self.any_leader()])),
            85..=89 => {
                let side = self.below(1 << self.count);
                Event::Part((1..=self.count).filter(|id| side >> (id - 1) & 1 == 1).collect())
            }
            _ => Event::Heal,
        }
    }
}

/// One of them, if there are any.
fn pick(random: &mut Pcg64Mcg, choices: &[u64]) -> Option<u64> {
    let place = random.next_u64().checked_rem(choices.len() as u64)?;
    choices.get(usize::try_from(place).ok()?).copied()
}
