//! Before and after the formation of the cluster (rule 2): a replica that has not formed has no protocol, so it can
//! neither vote nor stand.

use raft_core::{ClusterId, Instant, Raft, Restored};

use super::{PeerIdentity, Replica};
use crate::disk::DiskJob;
use crate::event::NodeEvent;
use crate::formation::{Forming, Step};
use crate::machine::StateMachine;
use crate::peer_message::{FormationRecord, FormationState, PeerMessage};

/// Whether the cluster has formed.
#[derive(Debug)]
pub(super) enum Stage {
    Forming { forming: Forming, restored: Box<Restored>, announce_at: Instant, obstacle: Option<String> },
    Running { cluster: ClusterId, raft: Box<Raft> },
}

impl<M: StateMachine, W> Replica<M, W> {
    pub(super) fn handle_formation(
        &mut self,
        from: PeerIdentity,
        state: FormationState,
        draw: &mut dyn FnMut() -> u128,
    ) {
        match &mut self.stage {
            Stage::Forming { forming, obstacle, .. } => {
                match forming.handle(from.id, from.disk, state, || ClusterId(draw())) {
                    Ok(step) => self.take_formation_step(step),
                    Err(reason) => {
                        let reason = reason.to_string();
                        if obstacle.as_ref() != Some(&reason) {
                            *obstacle = Some(reason.clone());
                            self.outputs.events.push(NodeEvent::CannotForm { with: from.id, reason });
                        }
                    }
                }
            }
            Stage::Running { cluster, raft } => {
                if !matches!(state, FormationState::Formed(_)) {
                    let record = FormationRecord::new(*cluster, raft.configuration());
                    let state = FormationState::Formed(record);
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
        let Stage::Forming { forming, restored, announce_at, .. } = &mut self.stage else { return };
        *announce_at = now;
        let Some(formation) = forming.handle_synced() else { return };
        let cluster = formation.cluster;
        let mut restored = std::mem::take(restored.as_mut());
        restored.initial = formation.configuration;
        let raft = Raft::new(self.config.protocol.clone(), restored, now)
            .expect("the settings were judged when the replica was made, and an unformed server has no log");
        let record = FormationRecord::new(cluster, raft.configuration());
        for (&peer, _) in raft.configuration().members.iter().filter(|(id, _)| **id != raft.id()) {
            let state = FormationState::Formed(record.clone());
            self.outputs.messages.push((peer, PeerMessage::Formation(state)));
        }
        self.stage = Stage::Running { cluster, raft: Box::new(raft) };
        self.outputs.events.push(NodeEvent::Formed { cluster });
    }
}
