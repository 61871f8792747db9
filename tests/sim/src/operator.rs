//! What an operator does: asks for another leader (§3.10) or other members (§4), and stops servers in order.
//!
//! Its requests go the way of any client's: to any server, which passes them on.

use kv_store::api::{Leadership, MemberChange, Request, RequestBody, RequestErrorKind, Response, ResponseBody};
use raft_core::{Instant, Standing};
use raft_net::{Frame, FrameKind};
use raft_node::ConnectionId;

use crate::checkers::Violation;
use crate::checkers::identity::Identity;
use crate::coverage::Count;
use crate::node::{Fate, Happening, Node, Process};
use crate::random::Random;
use crate::time::{MILLIS, SECONDS, Time};
use crate::world::{Event, World, peer_address_of, place_of};

/// Stands among the clients for the operator.
pub(crate) const OPERATOR: usize = usize::MAX;

/// How long a server that stops waits for what is under way, as the node's loop does.
const DRAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// What the operator waits for.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    last_request: u64,
    /// The answer to the last request, once it is there.
    pub(crate) answer: Option<Result<Leadership, RequestErrorKind>>,
    /// Until when a change of the membership may begin that was asked for.
    pub(crate) changes_until: Time,
}

impl World {
    // --- another leader ------------------------------------------------------------------------------------------

    /// Asks server `asked` to make `to` leader, or whom the leader chooses.
    pub(crate) fn ask_for_transfer(&mut self, asked: usize, to: Option<usize>, patience: Time) {
        let to = to.map(|to| to as u64 + 1);
        self.coverage.count(Count::TransferAsked);
        self.ask_as_operator(asked, RequestBody::TransferLeadership { to }, patience);
    }

    fn ask_as_operator(&mut self, asked: usize, body: RequestBody, patience: Time) {
        let Some(process) = self.node(asked).process.as_ref().map(|process| process.number) else { return };
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.connections.insert(connection, (OPERATOR, asked, process));
        self.operator.last_request += 1;
        self.operator.answer = None;
        let timeout_ms = u32::try_from(patience / MILLIS).unwrap_or(u32::MAX);
        self.trace.line(self.now, || format!("n{} is asked by the operator: {body:?}", asked + 1));
        let request = Request { id: self.operator.last_request, timeout_ms, body };
        let header = postcard::to_allocvec(&request).expect("only memory is written to").into();
        let frame = Frame { kind: FrameKind::Request, group: 0, header, payload: bytes::Bytes::new() };
        let at = self.now + self.scenario.settings.latency;
        let what = Box::new(Happening::Request { connection, frame });
        self.schedule(at, Event::Arrive { node: asked, process, what });
    }

    /// A server answers the operator. An answer that names a leader is true, whatever became of it since.
    pub(crate) fn operator_is_answered(&mut self, frame: &Frame) {
        let Ok(response) = postcard::from_bytes::<Response>(&frame.header) else {
            self.judge(Err(Violation::new("Clients are understood", "a response does not decode".to_owned())));
            return;
        };
        self.trace.line(self.now, || format!("the operator is answered: {:?}", response.body));
        let answer = match response.body {
            Ok(ResponseBody::Leadership(leadership)) => {
                self.coverage.count(Count::Transferred);
                let verdict = self.checkers.election_safety.check_answer(leadership);
                self.judge(verdict.map_err(|what| Violation::new("An answer names the leader", what)));
                Ok(leadership)
            }
            Ok(ResponseBody::Members(_)) => return self.coverage.count(Count::MembersChanged),
            Err(error) => {
                if matches!(
                    error.kind,
                    RequestErrorKind::Conflict | RequestErrorKind::NotReady | RequestErrorKind::Invalid
                ) {
                    self.coverage.count(Count::MembersUnchanged);
                }
                if error.kind == RequestErrorKind::NotElected {
                    self.coverage.count(Count::TransferGivenUp);
                }
                Err(error.kind)
            }
            Ok(other) => {
                let what = format!("asked for another leader, a server answers {other:?}");
                return self.judge(Err(Violation::new("Clients are understood", what)));
            }
        };
        if response.id == self.operator.last_request {
            self.operator.answer = Some(answer);
        }
    }

    /// The longest that a transfer takes between servers that have nothing to catch up with: the word, two votes, each
    /// from a disk that may be busy with something else, and the new leader's first entry. With half of that to spare.
    pub(crate) fn longest_transfer(&self) -> Time {
        3 * self.longest_exchange()
    }

    /// How long a message takes at most: there, to the disk, and its answer back.
    pub(crate) fn longest_exchange(&self) -> Time {
        let settings = &self.scenario.settings;
        let way = settings.latency + settings.jitter + settings.turn;
        2 * way + 2 * (settings.disk_latency + settings.disk_jitter)
    }

    // --- other members -------------------------------------------------------------------------------------------

    /// Asks for some change of the membership: mostly at the leader, mostly one that makes sense.
    pub(crate) fn change_members(&mut self, asked: usize, choice: &mut Random, patience: Time) {
        let leader = self.leader().filter(|_| choice.chance(950));
        let asked = leader.unwrap_or(asked);
        let Some(configuration) = self.checkers.membership.last_committed() else { return };
        let place = choice.place(self.nodes.len());
        let (id, number) = (self.node(place).id, place as u64 + 1);
        let voters = configuration.voters().count();
        let change = match configuration.standing(id) {
            // As any operator would, it looks first who is there: a removal that needs a server whose disk is gone could never
            // be finished, and the leader may not have noticed yet.
            Some(Standing::Voter) if self.is_any_voter_lost() => return,
            Some(Standing::Voter) if voters > 3 || choice.chance(50) => MemberChange::Remove { id: number },
            Some(Standing::Learner { .. }) if choice.chance(700) => MemberChange::Promote { id: number },
            Some(Standing::Learner { .. }) => MemberChange::Remove { id: number },
            Some(_) => return,
            None => {
                MemberChange::Add { id: number, address: peer_address_of(place), becomes_voter: choice.chance(700) }
            }
        };
        self.operator.changes_until = self.operator.changes_until.max(self.now + patience + SECONDS);
        self.ask_as_operator(asked, RequestBody::ChangeMembers { change }, patience);
    }

    fn is_any_voter_lost(&self) -> bool {
        let configuration = self.checkers.membership.last_committed();
        let mut voters = configuration.into_iter().flat_map(|configuration| configuration.voters());
        voters.any(|id| self.nodes.get(place_of(id)).is_none_or(|node| node.fate != Fate::Sound))
    }

    /// Wiped disks that a committed configuration makes voters again are as good as the old ones.
    pub(crate) fn note_admitted(&mut self) {
        let Some(configuration) = self.checkers.membership.last_committed() else { return };
        let is_back = |node: &Node| node.fate == Fate::Wiped && Identity::votes(node, configuration);
        let back: Vec<usize> =
            self.nodes.iter().enumerate().filter(|(_, node)| is_back(node)).map(|(place, _)| place).collect();
        for place in back {
            self.node_mut(place).fate = Fate::Sound;
            self.checkers.disks.admitted(place);
            self.coverage.count(Count::WipedAdmitted);
        }
    }

    // --- a stop in order -----------------------------------------------------------------------------------------

    /// A server is told to stop.
    pub(crate) fn stop_in_order(&mut self, node: usize, restart_after: Time) {
        let Some(process) = &mut self.node_mut(node).process else { return };
        if process.restart_after.is_some() {
            return;
        }
        process.restart_after = Some(restart_after);
        let number = process.number;
        self.coverage.count(Count::Stop);
        self.schedule(self.now, Event::Arrive { node, process: number, what: Box::new(Happening::Stop) });
    }

    /// Whether a server that was told to stop has done what it had to.
    pub(crate) fn is_drained(process: &Process, clock: Instant) -> bool {
        process.stopping.is_some_and(|since| process.server.replica().is_drained() || clock >= since.after(DRAIN_LIMIT))
    }

    /// When a server's process wants to be woken.
    pub(crate) fn wakeup_of(process: &Process) -> Instant {
        let wakeup = process.server.next_wakeup();
        process.stopping.map_or(wakeup, |since| wakeup.min(since.after(DRAIN_LIMIT)))
    }

    /// A server ends in order: everybody has an answer, and what its disk was given is written.
    pub(crate) fn finish_stop(&mut self, node: usize, mut process: Box<Process>, clock: Instant) {
        let id = process.identity.id;
        self.trace.line(self.now, || format!("{id} stops in order"));
        process.server.abandon_requests();
        self.carry_out(node, &mut process, clock);
        let mut jobs = process.working.take().unwrap_or_default();
        jobs.append(&mut process.jobs);
        if let Ok(done) = process.queue.work_off(&mut process.storage, jobs) {
            self.checkers.disks.done(node, &done, process.storage.formation());
            // A mark that is not written is missed by nobody.
            let _ = process.storage.mark_idle();
        }
        let at = self.now + process.restart_after.unwrap_or(SECONDS);
        self.node_mut(node).process = Some(process);
        self.end_process(node);
        self.plan_start(node, at);
    }
}
