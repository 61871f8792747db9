//! Before and after the formation of the cluster (rule 2): a replica that has not formed has no protocol, so it can
//! neither vote nor stand.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{ClusterId, Configuration, Instant, LogIndex, NodeId, Raft, Restored};
use raft_storage::Formation;

use super::{PeerIdentity, Replica};
use crate::disk::DiskJob;
use crate::event::NodeEvent;
use crate::formation::{Forming, Obstacle, Step};
use crate::machine::StateMachine;
use crate::peer_message::{FormationRecord, FormationState, PeerMessage};

/// How often a server that has not formed says so.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// How long members may take to come up together before the missing ones are named.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the cluster has formed.
#[derive(Debug)]
pub(super) enum Stage {
    Forming(Box<Unformed>),
    Running {
        cluster: ClusterId,
        /// The members that formed it; nobody if this server was a newcomer.
        initial: Configuration,
        raft: Box<Raft>,
    },
}

/// What a server keeps until the cluster has formed.
#[derive(Debug)]
pub(super) struct Unformed {
    pub(super) forming: Forming,
    pub(super) announce_at: Instant,
    since: Instant,
    /// Whom it was last said to wait for, so that it is not said over and over.
    named_missing: Vec<NodeId>,
    /// Why each of the others takes no part, likewise.
    obstacles: BTreeMap<NodeId, Obstacle>,
}

impl Unformed {
    pub(super) const fn new(forming: Forming, now: Instant) -> Self {
        Self { forming, announce_at: now, since: now, named_missing: Vec::new(), obstacles: BTreeMap::new() }
    }

    /// Names the members it waits for, each time others than before.
    fn name_missing(&mut self, now: Instant) -> Option<NodeEvent> {
        let missing = self.forming.missing();
        if now.since(self.since) < PATIENCE || missing == self.named_missing {
            return None;
        }
        self.named_missing.clone_from(&missing);
        (!missing.is_empty()).then_some(NodeEvent::WaitsForMembers { missing })
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Says where this server stands, and takes up what is waiting to be done.
    pub(super) fn announce_formation(&mut self, now: Instant, draw: &mut dyn FnMut() -> u128) {
        let Stage::Forming(unformed) = &mut self.stage else { return };
        unformed.announce_at = now.after(ANNOUNCE_INTERVAL);
        let state = unformed.forming.state();
        for peer in unformed.forming.others() {
            self.outputs.messages.push((peer, PeerMessage::Formation(state.clone())));
        }
        self.outputs.events.extend(unformed.name_missing(now));
        let step = unformed.forming.advance(|| ClusterId(draw()));
        self.take_formation_step(step);
    }

    pub(super) fn handle_formation(
        &mut self,
        from: PeerIdentity,
        state: FormationState,
        draw: &mut dyn FnMut() -> u128,
    ) {
        match &mut self.stage {
            Stage::Forming(unformed) => {
                match unformed.forming.handle(from.id, from.disk, state, || ClusterId(draw())) {
                    Ok(step) => {
                        unformed.obstacles.remove(&from.id);
                        self.take_formation_step(step);
                    }
                    Err(obstacle) => {
                        if unformed.obstacles.get(&from.id) != Some(&obstacle) {
                            let reason = obstacle.to_string();
                            self.outputs.events.push(NodeEvent::CannotForm { with: from.id, reason });
                            unformed.obstacles.insert(from.id, obstacle);
                        }
                    }
                }
            }
            Stage::Running { cluster, initial, raft } => {
                // One that was a newcomer cannot say who formed the cluster. But once it has a configuration for certain,
                // others can get that from the log too.
                let can_tell =
                    !initial.is_empty() || (LogIndex(1)..=raft.commit_index()).contains(&raft.configuration_index());
                if can_tell && !matches!(state, FormationState::Formed(_)) {
                    let state = FormationState::Formed(FormationRecord::new(*cluster, initial));
                    self.outputs.messages.push((from.id, PeerMessage::Formation(state)));
                }
            }
        }
    }

    pub(super) fn take_formation_step(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Write(formation) => self.outputs.jobs.push(DiskJob::Formation(formation)),
        }
    }

    pub(super) fn handle_formation_synced(&mut self, now: Instant) {
        let Stage::Forming(unformed) = &mut self.stage else { return };
        unformed.announce_at = now;
        let Some(formation) = unformed.forming.handle_synced() else { return };
        let Formation { cluster, configuration: initial, .. } = formation;
        let restored = Restored { initial: initial.clone(), ..Restored::default() };
        let raft = Raft::new(self.config.protocol.clone(), restored, now)
            .expect("the settings were judged when the replica was made, and an unformed server has no log");
        let record = FormationRecord::new(cluster, raft.configuration());
        for (peer, _) in raft.configuration().members().filter(|(id, _)| *id != raft.id()) {
            let state = FormationState::Formed(record.clone());
            self.outputs.messages.push((peer, PeerMessage::Formation(state)));
        }
        self.outputs.events.push(if initial.is_empty() {
            NodeEvent::AsksToJoin { cluster }
        } else {
            NodeEvent::Formed { cluster }
        });
        self.stage = Stage::Running { cluster, initial, raft: Box::new(raft) };
        self.note_peers_changed();
        self.introduce(now);
    }
}
