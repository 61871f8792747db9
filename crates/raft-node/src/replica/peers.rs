//! Whom this server speaks with, and where they are reached: the members of its configuration, and whoever has introduced
//! itself.
//!
//! A configuration names where its members are reached. But a server is also spoken to by some that its configuration does
//! not name: one of a later configuration asks for its vote (§4.1), a newcomer wants to be added (rule 2). They must get
//! answers, and answers travel on this server's own links. So everybody says on its links where it is reached itself.
//!
//! A *newcomer* is a server that no configuration it knows names, with its disk: its data directory is new. It asks whoever
//! it can reach. If its id is a member's on another disk, the leader lets the new disk take the place of the old, unless
//! that one lives; else it waits until somebody adds it.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{ChangeRefusal, ClusterId, DiskId, Instant, Member, MemberChange, NodeId, Raft, RoleName};

use super::{PeerIdentity, Replica, Stage};
use crate::event::NodeEvent;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;

/// How often a server says where it is reached. What is lost costs this long.
const INTRODUCE_INTERVAL: Duration = Duration::from_secs(1);
/// How many servers are remembered that no configuration names: more than a configuration has members.
const MAX_STRANGERS: usize = 64;

/// Where everybody is.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Who has introduced itself on a link that is up.
    introduced: BTreeMap<NodeId, Introduced>,
    /// Where a newcomer was told that members are.
    guides: BTreeMap<NodeId, String>,
    /// Whom there were to be links to, when that was last said.
    linked: BTreeMap<NodeId, String>,
    /// Whether that may have changed.
    has_changed: bool,
    pub(super) introduce_at: Instant,
    /// Why this newcomer is not admitted, as it was last told; it is said once.
    refusal: Option<String>,
    /// Whether it was said that this server is removed.
    said_removed: bool,
}

/// A server that has said where it is reached.
#[derive(Clone, Debug)]
pub(super) struct Introduced {
    pub(super) disk: DiskId,
    pub(super) address: String,
}

impl Peers {
    pub(super) fn new(now: Instant) -> Self {
        Self { has_changed: true, introduce_at: now, ..Self::default() }
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    // --- who is where ----------------------------------------------------------------------------------------------

    /// Where this server is reached.
    pub(crate) fn note_own_address(&mut self, address: String) {
        self.config.address = address;
    }

    /// Whether it has to find the members of its cluster: it is a newcomer without an address that leads to them.
    pub fn seeks_members(&self) -> bool {
        match &self.stage {
            Stage::Forming(unformed) => unformed.forming.is_newcomer(),
            Stage::Running { raft, .. } => raft.configuration().is_empty(),
        }
    }

    /// At an address that this newcomer was given there is server `id`, of `cluster` if that has formed.
    pub fn note_seed(&mut self, id: NodeId, address: String, cluster: Option<ClusterId>) {
        if !self.seeks_members() || id == self.config.protocol.id {
            return;
        }
        self.note_guide(id, address);
        if let (Stage::Forming(unformed), Some(cluster)) = (&mut self.stage, cluster) {
            let step = unformed.forming.join(cluster);
            self.take_formation_step(step);
        }
    }

    fn note_guide(&mut self, id: NodeId, address: String) {
        let guides = &mut self.peers.guides;
        if guides.len() < MAX_STRANGERS || guides.contains_key(&id) {
            guides.insert(id, address);
            self.peers.has_changed = true;
        }
    }

    /// Who is to be linked may have changed.
    pub(super) const fn note_peers_changed(&mut self) {
        self.peers.has_changed = true;
    }

    /// Whom there are to be links to from now on, if that is not what was said before.
    pub(super) fn take_new_peers(&mut self) -> Option<BTreeMap<NodeId, String>> {
        if !std::mem::take(&mut self.peers.has_changed) {
            return None;
        }
        // Later ones win: what the configuration says of a member holds whatever a server says that claims its id.
        let mut wanted = BTreeMap::new();
        wanted.extend(self.peers.introduced.iter().map(|(&id, peer)| (id, peer.address.clone())));
        wanted.extend(self.peers.guides.clone());
        match self.configuration() {
            Some(configuration) if !configuration.is_empty() => {
                wanted.extend(configuration.members().map(|(id, member)| (id, member.address.clone())));
            }
            Some(_) | None => wanted.extend(self.config.listed.clone()),
        }
        wanted.remove(&self.config.protocol.id);
        if wanted == self.peers.linked {
            return None;
        }
        self.peers.linked.clone_from(&wanted);
        Some(wanted)
    }

    pub(super) fn introduced(&self, id: NodeId) -> Option<&Introduced> {
        self.peers.introduced.get(&id)
    }

    // --- introductions ---------------------------------------------------------------------------------------------

    /// Says to everybody where this server is reached.
    pub(super) fn introduce(&mut self, now: Instant) {
        self.peers.introduce_at = now.after(INTRODUCE_INTERVAL);
        let peers: Vec<NodeId> = self.peers.linked.keys().copied().collect();
        for peer in peers {
            self.introduce_to(peer);
        }
    }

    pub(super) fn introduce_to(&mut self, peer: NodeId) {
        let Stage::Running { raft, .. } = &self.stage else { return };
        let is_newcomer = is_newcomer(raft);
        // What the configuration says of this server is what an operator said, or what it said itself.
        let address = match raft.configuration().member(raft.id()) {
            Some(member) if !is_newcomer => member.address.clone(),
            Some(_) | None => self.config.address.clone(),
        };
        self.outputs.messages.push((peer, PeerMessage::Introduction { address, is_newcomer }));
    }

    pub(super) fn handle_introduction(&mut self, now: Instant, from: PeerIdentity, address: String, is_newcomer: bool) {
        let PeerIdentity { id, disk, .. } = from;
        let introduced = &mut self.peers.introduced;
        if introduced.len() >= MAX_STRANGERS && !introduced.contains_key(&id) {
            return;
        }
        introduced.insert(id, Introduced { disk, address });
        self.peers.has_changed = true;
        let Stage::Running { raft, .. } = &self.stage else { return };
        let configuration = raft.configuration();
        if configuration.is_empty() || configuration.has(id, disk) {
            return;
        }
        self.note_foreign(from);
        if is_newcomer {
            self.guide(now, from);
        }
    }

    /// Tells a newcomer where the members are; the leader also whether it may come in.
    fn guide(&mut self, now: Instant, from: PeerIdentity) {
        let Stage::Running { raft, .. } = &self.stage else { return };
        let members = raft.configuration().members().map(|(id, member)| (id, member.address.clone())).collect();
        let (leads, is_known) = (raft.role() == RoleName::Leader, raft.configuration().member(from.id).is_some());
        self.outputs.messages.push((from.id, PeerMessage::Members { members }));
        if !leads {
            return;
        }
        let refusal = if is_known {
            self.replace(now, from).err().map(|refusal| refusal.to_string())
        } else {
            self.try_changes(now);
            let is_member = self.configuration().is_some_and(|configuration| configuration.member(from.id).is_some());
            (!is_member).then(|| format!("{} is no member of this cluster yet; `raftctl member add` adds it", from.id))
        };
        if let Some(reason) = refusal {
            self.outputs.messages.push((from.id, PeerMessage::NotAdmitted { reason }));
        }
    }

    /// A member came back with another disk: that takes the place of the old one, as a learner at first (rule 2).
    fn replace(&mut self, now: Instant, from: PeerIdentity) -> Result<(), ChangeRefusal> {
        let Some(Introduced { disk, address }) = self.introduced(from.id).cloned() else { return Ok(()) };
        let member = Member { disk, address };
        self.change(now, vec![MemberChange::Replace { id: from.id, member }]).map(|_| ())
    }

    /// A member says where all of them are.
    pub(super) fn handle_members(&mut self, members: Vec<(NodeId, String)>) {
        if self.seeks_members() {
            for (id, address) in members {
                self.note_guide(id, address);
            }
        }
    }

    /// The leader says why this newcomer is not admitted. It goes on asking.
    pub(super) fn handle_not_admitted(&mut self, by: NodeId, reason: String) {
        let is_asking = matches!(&self.stage, Stage::Running { raft, .. } if is_newcomer(raft));
        if is_asking && self.peers.refusal.as_ref() != Some(&reason) {
            self.peers.refusal = Some(reason.clone());
            self.outputs.events.push(NodeEvent::NotAdmitted { by, reason });
        }
    }

    /// The link on which `peer` said where it is reached is gone.
    pub(super) fn forget_introduction(&mut self, peer: NodeId) {
        if self.peers.introduced.remove(&peer).is_some() {
            self.peers.has_changed = true;
        }
    }

    // --- members and others ----------------------------------------------------------------------------------------

    /// Somebody speaks under a member's id from another disk.
    fn note_foreign(&mut self, from: PeerIdentity) {
        let is_known_id = self.configuration().is_some_and(|configuration| configuration.member(from.id).is_some());
        if is_known_id && self.foreign_disks.insert(from.id, from.disk) != Some(from.disk) {
            self.outputs.events.push(NodeEvent::ForeignDisk { peer: from.id });
        }
    }

    /// Whether this server was a member and is none any more.
    pub fn is_removed(&self) -> bool {
        matches!(&self.stage, Stage::Running { raft, .. } if raft.is_removed() && !is_newcomer(raft))
    }

    /// Says once that this server is removed.
    pub(super) fn note_removed(&mut self) {
        let is_removed = self.is_removed();
        if is_removed && !self.peers.said_removed {
            self.outputs.events.push(NodeEvent::Removed);
        }
        self.peers.said_removed = is_removed;
    }
}

/// Whether no configuration that this server knows names it with its disk.
fn is_newcomer(raft: &Raft) -> bool {
    match raft.configuration().member(raft.id()) {
        Some(member) => member.disk != raft.disk(),
        None => raft.configuration().is_empty(),
    }
}
