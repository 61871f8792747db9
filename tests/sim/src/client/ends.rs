//! How a client's operation ends: what its answer is compared with, and what is known of it without one.

use bytes::Bytes;
use kv_store::{Command, Found, Query, Refusal, Revision};

use super::{Call, Client};
use crate::checkers::Violation;
use crate::checkers::exactly_once::ExactlyOnce;
use crate::checkers::key_model::{Action, Outcome};
use crate::checkers::ledger::WriteId;
use crate::checkers::real_time::{self, RealTime};
use crate::coverage::Count;
use crate::workload::{self, Request};
use crate::world::World;

impl World {
    fn end(&mut self, client: usize) -> Option<Call> {
        let (now, is_healed) = (self.now, self.is_healed);
        let this = self.client(client);
        let call = this.call.take()?;
        let pause = if is_healed { 0 } else { this.interval };
        let think = this.random.below(2 * pause + 1);
        self.act_at(client, now + think);
        Some(call)
    }

    fn judge_as(&mut self, property: &'static str, verdict: Result<(), String>) {
        self.judge(verdict.map_err(|what| Violation::new(property, what)));
    }

    pub(super) fn written(&mut self, client: usize, outcome: &kv_store::Outcome) {
        let Some(call) = self.end(client) else { return };
        let (Request::Write(command) | Request::Special(command)) = &call.request else { return };
        let Some((write, _)) = &call.write else { return };
        self.coverage.count(Count::Done);
        let action = workload::action_of(command);
        let checkers = &mut self.checkers;
        let verdict = checkers.exactly_once.acknowledged(&checkers.ledger, *write, outcome);
        let in_time = checkers.real_time.ended(call.floor, outcome.revision, "a write");
        match action.and_then(|action| Some((action, workload::outcome_of(&action, &outcome.effect)?))) {
            Some((action, seen)) => {
                checkers.linearizable.ended(&call.key, client_number(client), call.called, action, Some(seen))
            }
            None => checkers.linearizable.dropped(&call.key),
        }
        if matches!(command, Command::Transact(_)) {
            self.transferred(client, &outcome.effect);
        }
        self.judge_as("Exactly once, and nothing acknowledged is lost", verdict);
        self.judge_as("Nothing older is seen than was known", in_time);
        let this = self.client(client);
        this.last_was_done = true;
        this.newest = this.newest.max(outcome.revision);
        if action.is_some() {
            this.note_seen(&call.key, command, &outcome.effect);
        }
        self.note_acknowledged();
        self.wake_another(client);
    }

    /// One client's write is another's hurry: it asks any server, where what was just acknowledged must be seen.
    fn wake_another(&mut self, writer: usize) {
        let hurry_per_mille = self.scenario.settings.hurry_per_mille;
        let (nodes, clients) = (self.nodes.len(), self.clients.len());
        let random = &mut self.client(writer).random;
        if !random.chance(hurry_per_mille) {
            return;
        }
        let (node, other) = (random.place(nodes), random.place(clients));
        if other != writer && self.client(other).is_idle() {
            self.client(other).favourite = node;
            self.act_at(other, self.now);
        }
    }

    /// The store refuses the command, the same on every server.
    pub(super) fn refused(&mut self, client: usize, refusal: &Refusal) {
        let settled_by_itself = matches!(
            refusal,
            Refusal::WrongType(_) | Refusal::TooLarge { .. } | Refusal::EmptyKey | Refusal::NoSpace { .. }
        );
        let never = matches!(refusal, Refusal::DeadlinePassed);
        let Some(call) = self.end(client) else { return };
        let (Request::Write(command) | Request::Special(command)) = &call.request else { return };
        let Some((write, _)) = &call.write else { return };
        if matches!(refusal, Refusal::NoSpace { .. }) {
            self.coverage.count(Count::OverQuota);
        }
        if settled_by_itself {
            let verdict = ExactlyOnce::refused(&self.checkers.ledger, *write, refusal);
            self.judge_as("Exactly once, and nothing acknowledged is lost", verdict);
            self.coverage.count(Count::Done);
            // The answer is no; but it is one.
            self.client(client).last_was_done = true;
            let number = client_number(client);
            match workload::action_of(command) {
                Some(action) => {
                    let refused = Some(Outcome::Refused);
                    self.checkers.linearizable.ended(&call.key, number, call.called, action, refused);
                }
                None => self.checkers.linearizable.dropped(&call.key),
            }
        } else if never || (!call.in_doubt && call.open.is_empty()) {
            self.note_certainly_not(*write, &call.key);
        } else {
            self.note_unknown(client, &call);
        }
    }

    pub(super) fn read(&mut self, client: usize, answer: &kv_store::Answer) {
        let Some(call) = self.end(client) else { return };
        let (query, is_local) = match &call.request {
            Request::Read(query) => (query, false),
            Request::LocalRead(query) => (query, true),
            Request::PastRead { query, .. } => return self.read_past(&call, query, answer),
            Request::Write(_) | Request::Special(_) => return,
        };
        self.coverage.count(Count::Done);
        let verdict = RealTime::check_answer(&self.checkers.ledger, query, answer);
        self.judge_as("A read is the committed state at its revision", verdict);
        match query {
            Query::Scan { .. } => self.coverage.count(Count::ScanChecked),
            Query::Get { .. } if is_local => self.coverage.count(Count::LocalRead),
            Query::Get { .. } | Query::Leases { .. } => {}
        }
        let is_scan = matches!(query, Query::Scan { .. });
        if let (Query::Scan { prefix, limit: 1_000, .. }, Found::Items { items, .. }) = (query, &answer.found)
            && prefix.is_empty()
        {
            let accounts: Vec<_> = items.iter().filter(|item| item.key.starts_with(b"b")).cloned().collect();
            self.judge_as("A transaction is seen whole or not at all", workload::check_bank(&accounts));
        }
        let newest = self.client(client).newest;
        self.client(client).newest = newest.max(answer.revision);
        if is_local {
            self.checkers.linearizable.dropped(&call.key);
            let verdict = real_time::check_local(newest, answer.revision);
            self.judge_as("Local reads of a client do not go back in time", verdict);
            return;
        }
        let in_time = self.checkers.real_time.ended(call.floor, answer.revision, "a read");
        self.judge_as("Nothing older is seen than was known", in_time);
        if is_scan {
            self.checkers.linearizable.dropped(&call.key);
        } else {
            let item = workload::item_of(&answer.found);
            let outcome = workload::outcome_of_item(item);
            let number = client_number(client);
            self.checkers.linearizable.ended(&call.key, number, call.called, Action::Get, Some(outcome));
            if let Some(item) = item {
                let value = item.value.clone();
                self.client(client).seen.insert(call.key.clone(), value);
            } else {
                self.client(client).seen.remove(&call.key);
            }
        }
        self.client(client).last_was_done = true;
    }

    fn read_past(&mut self, call: &Call, query: &Query, answer: &kv_store::Answer) {
        self.coverage.count(Count::Done);
        self.coverage.count(Count::PastRead);
        self.checkers.linearizable.dropped(&call.key);
        let asked = call.past_revision();
        let verdict = if answer.revision == asked {
            RealTime::check_answer(&self.checkers.ledger, query, answer)
        } else {
            Err(format!("a read as of revision {asked} is answered as of {}", answer.revision))
        };
        self.judge_as("A read is the committed state at its revision", verdict);
    }

    /// A transfer was done, or the accounts had changed.
    fn transferred(&mut self, client: usize, effect: &kv_store::Effect) {
        let kv_store::Effect::Transacted { succeeded, .. } = effect else { return };
        self.coverage.count(if *succeeded { Count::BankTransfer } else { Count::BankRefused });
        let accounts = workload::accounts_of(effect).unwrap_or_default().to_vec();
        let verdict = workload::check_bank(&accounts);
        self.client(client).bank = accounts;
        self.judge_as("A transaction is seen whole or not at all", verdict);
    }

    /// What was asked for is forgotten: it must have been, and what is named must be later.
    pub(super) fn past_is_compacted(&mut self, client: usize, oldest: Revision) {
        let Some(call) = self.end(client) else { return };
        self.coverage.count(Count::PastCompacted);
        self.checkers.linearizable.dropped(&call.key);
        let (asked, forgotten) = (call.past_revision(), self.checkers.ledger.oldest());
        let is_so = matches!(call.request, Request::PastRead { .. }) && asked < oldest && oldest <= forgotten;
        let verdict = is_so
            .then_some(())
            .ok_or_else(|| format!("revision {asked} is called compacted up to {oldest}, not {forgotten}"));
        self.judge_as("Only what is compacted is called so", verdict);
    }

    /// No time is left, or no second try was wanted.
    pub(crate) fn end_without_answer(&mut self, client: usize) {
        let Some(call) = self.end(client) else { return };
        match (&call.request, &call.write) {
            (Request::Write(_) | Request::Special(_), Some((write, _))) if call.in_doubt || !call.open.is_empty() => {
                let _ = write;
                self.note_unknown(client, &call);
            }
            (Request::Write(_) | Request::Special(_), Some((write, _))) => self.note_certainly_not(*write, &call.key),
            _ => self.checkers.linearizable.dropped(&call.key),
        }
    }

    fn note_unknown(&mut self, client: usize, call: &Call) {
        self.coverage.count(Count::Unknown);
        match &call.request {
            Request::Write(command) => {
                if let Some(action) = workload::action_of(command) {
                    self.checkers.linearizable.ended(&call.key, client_number(client), call.called, action, None);
                }
            }
            _ => self.checkers.linearizable.dropped(&call.key),
        }
        // What it last saw may be old by now.
        self.client(client).seen.remove(&call.key);
    }

    fn note_certainly_not(&mut self, write: WriteId, key: &Bytes) {
        self.coverage.count(Count::CertainlyNot);
        self.checkers.linearizable.dropped(key);
        let checkers = &mut self.checkers;
        let verdict = checkers.exactly_once.certainly_not(&checkers.ledger, write);
        self.judge_as("What certainly was not applied never is", verdict);
    }
}

impl Client {
    fn note_seen(&mut self, key: &Bytes, command: &Command, effect: &kv_store::Effect) {
        let now = match (command, effect) {
            (Command::Set { value, .. }, kv_store::Effect::Set { set: true }) => Some(value.clone()),
            (Command::CompareAndSwap { new, .. }, kv_store::Effect::Swapped { swapped: true }) => Some(new.clone()),
            _ => None,
        };
        match now {
            Some(value) => drop(self.seen.insert(key.clone(), value)),
            None => drop(self.seen.remove(key)),
        }
    }
}

fn client_number(client: usize) -> u32 {
    u32::try_from(client).unwrap_or(u32::MAX)
}
