//! How a cluster comes to be (rule 2): no election before all listed members have met and synced one cluster id and
//! each other's disk ids.
//!
//! Without this, a member whose disk is lost between its first vote and its second would come back empty under its old
//! id and vote again. With it, every vote ever given names a disk that all members knew before the first election.
//!
//! Two steps. The *coordinator* (the lowest id) meets all the others, draws the cluster id and syncs the record as
//! *prepared*; so do the others when they hear it. When the coordinator has heard *prepared* from all, it syncs
//! *formed*, and whoever hears *formed* does too. Everybody repeats its state until all have formed, so a lost message
//! costs only time. What makes it safe:
//! - only a server that has formed votes, and one has formed only after all have prepared the same record;
//! - a prepared record may be replaced (a disk was wiped before the cluster had formed); a formed one never;
//! - a server that has not formed has never voted, so it may take any formed record that names its own disk.
//!
//! A *newcomer* takes no part in that: it has no list, or the cluster formed with another disk under its id. It takes the
//! cluster's id and no members, so it neither stands nor counts, until a configuration in its log names it.

use std::collections::BTreeMap;

use raft_core::{ClusterId, Configuration, DiskId, Member, NodeId};
use raft_storage::Formation;

use crate::peer_message::{FormationRecord, FormationState};

/// A server's part in the formation of its cluster.
#[derive(Debug)]
pub(crate) struct Forming {
    own: NodeId,
    disk: DiskId,
    /// The members and their peer addresses, as `--cluster` lists them; nobody if it is to join a cluster.
    listed: BTreeMap<NodeId, String>,
    /// What this server has synced, or is syncing.
    prepared: Option<FormationRecord>,
    /// Whether that is on disk.
    is_synced: bool,
    /// The last record handed out for the disk, if it was a formed one.
    formed: Option<Formation>,
    /// What each of the others last said, and on which disk.
    peers: BTreeMap<NodeId, (DiskId, FormationState)>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing but waiting.
    Wait,
    /// Sync this record; then [`Forming::handle_synced`].
    Write(Formation),
}

/// Why a server takes no part with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The other was started with another list.
    OtherList { theirs: Vec<u64>, ours: Vec<u64> },
    /// The other belongs to a cluster that was not formed with a server of this id.
    ClusterWithoutUs { cluster: ClusterId },
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherList { theirs, ours } => {
                write!(
                    f,
                    "was started with --cluster listing {theirs:?}, this node with {ours:?}; make the lists equal"
                )
            }
            Self::ClusterWithoutUs { cluster } => write!(
                f,
                "belongs to cluster {cluster}, which was formed without a node of this id; check --id and --cluster, or \
                 join that cluster with --join"
            ),
        }
    }
}

impl Forming {
    /// Takes up the formation where the disk left it: `found` is what was prepared before.
    pub(crate) fn new(own: NodeId, disk: DiskId, listed: BTreeMap<NodeId, String>, found: Option<&Formation>) -> Self {
        // What was prepared for another list is of no use: it was corrected since, and nobody has voted by it.
        let is_listed = |found: &&Formation| {
            found
                .configuration
                .members()
                .map(|(id, member)| (id, &member.address))
                .eq(listed.iter().map(|(&id, address)| (id, address)))
        };
        let found = found.filter(is_listed);
        let prepared = found.map(|found| FormationRecord::new(found.cluster, &found.configuration));
        let is_synced = prepared.is_some();
        Self { own, disk, listed, prepared, is_synced, formed: None, peers: BTreeMap::new() }
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.listed.keys().copied().filter(|&id| id != self.own)
    }

    /// What this server says of itself.
    pub(crate) fn state(&self) -> FormationState {
        match &self.prepared {
            Some(record) if self.is_synced => FormationState::Prepared(record.clone()),
            Some(_) | None => FormationState::Waiting { listed: self.listed.keys().map(|id| id.as_u64()).collect() },
        }
    }

    /// Whom it still waits to hear from.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        self.others().filter(|id| !self.peers.contains_key(id)).collect()
    }

    /// Takes what another server says, from `disk`, and decides what to do next. `draw` gives a fresh random cluster
    /// id, if one is needed.
    pub(crate) fn handle(
        &mut self,
        from: NodeId,
        disk: DiskId,
        state: FormationState,
        draw: impl FnOnce() -> ClusterId,
    ) -> Result<Step, Obstacle> {
        if from == self.own || !self.listed.contains_key(&from) {
            // A stranger has no say, and the handshake has told it so.
            return Ok(Step::Wait);
        }
        if let FormationState::Formed(record) = &state {
            // It is said again; one record at a time goes to the disk.
            if self.is_writing() {
                return Ok(Step::Wait);
            }
            return match record.disk_of(self.own) {
                Some(disk) if disk == self.disk => Ok(self.form(record.clone())),
                // It formed with another disk under this id, so this one is new.
                Some(_) => Ok(self.join(record.cluster())),
                // Nobody is left who could say which disks formed it. This one has never voted, so it may be new in any
                // case.
                None if record.members.is_empty() => Ok(self.join(record.cluster())),
                None => Err(Obstacle::ClusterWithoutUs { cluster: record.cluster() }),
            };
        }
        let theirs = listed_in(&state);
        if !theirs.iter().copied().eq(self.listed.keys().map(|id| id.as_u64())) {
            // Nor does what it said with an earlier list count.
            self.peers.remove(&from);
            return Err(Obstacle::OtherList { theirs, ours: self.listed.keys().map(|id| id.as_u64()).collect() });
        }
        self.peers.insert(from, (disk, state));
        Ok(self.advance(draw))
    }

    /// The record handed out last is on disk. Gives it back if that completes the formation.
    pub(crate) fn handle_synced(&mut self) -> Option<Formation> {
        self.is_synced = true;
        self.formed.take()
    }

    /// Decides what to do next with what is known; nothing while a record is on its way to the disk.
    pub(crate) fn advance(&mut self, draw: impl FnOnce() -> ClusterId) -> Step {
        if self.is_writing() {
            return Step::Wait;
        }
        if self.listed.keys().next() == Some(&self.own) { self.coordinate(draw) } else { self.follow() }
    }

    /// Whether a record is on its way to the disk.
    const fn is_writing(&self) -> bool {
        self.prepared.is_some() && !self.is_synced
    }

    /// The coordinator's part.
    fn coordinate(&mut self, draw: impl FnOnce() -> ClusterId) -> Step {
        if !self.missing().is_empty() {
            return Step::Wait;
        }
        let is_current = self.prepared.as_ref().is_some_and(|record| self.names_all_disks(record));
        match &self.prepared {
            Some(record) if is_current => {
                let all_prepared =
                    self.peers.values().all(|(_, state)| *state == FormationState::Prepared(record.clone()));
                if all_prepared { self.form(record.clone()) } else { Step::Wait }
            }
            Some(_) | None => {
                let configuration = self.configuration();
                let record = FormationRecord::new(draw(), &configuration);
                if self.peers.is_empty() { self.form(record) } else { self.prepare(record) }
            }
        }
    }

    /// The others' part: sync what the coordinator has prepared, if it names this disk.
    fn follow(&mut self) -> Step {
        let coordinator = self.listed.keys().next().and_then(|first| self.peers.get(first));
        match coordinator {
            Some((_, FormationState::Prepared(record)))
                if self.prepared.as_ref() != Some(record) && record.disk_of(self.own) == Some(self.disk) =>
            {
                self.prepare(record.clone())
            }
            Some(_) | None => Step::Wait,
        }
    }

    /// Belongs to `cluster` from now on, as a newcomer.
    pub(crate) fn join(&mut self, cluster: ClusterId) -> Step {
        if self.is_writing() { Step::Wait } else { self.form(FormationRecord::new(cluster, &Configuration::default())) }
    }

    /// Whether it is to join a cluster, not to form one.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.listed.is_empty()
    }

    fn prepare(&mut self, record: FormationRecord) -> Step {
        self.write(record, false)
    }

    fn form(&mut self, record: FormationRecord) -> Step {
        self.write(record, true)
    }

    fn write(&mut self, record: FormationRecord, formed: bool) -> Step {
        // A record with an id of 0 or one twice comes from no correct server.
        let Some(configuration) = record.configuration() else { return Step::Wait };
        let cluster = record.cluster();
        self.prepared = Some(record);
        self.is_synced = false;
        let formation = Formation { cluster, configuration, formed };
        self.formed = formed.then(|| formation.clone());
        Step::Write(formation)
    }

    fn names_all_disks(&self, record: &FormationRecord) -> bool {
        record.disk_of(self.own) == Some(self.disk)
            && self.peers.iter().all(|(&id, (disk, _))| record.disk_of(id) == Some(*disk))
    }

    fn configuration(&self) -> Configuration {
        let disk_of = |id: &NodeId| self.peers.get(id).map_or(self.disk, |(disk, _)| *disk);
        let member = |(id, address): (&NodeId, &String)| (*id, Member { disk: disk_of(id), address: address.clone() });
        Configuration::of_voters(self.listed.iter().map(member))
    }
}

/// The ids of the members, as the other side was told of them.
fn listed_in(state: &FormationState) -> Vec<u64> {
    match state {
        FormationState::Waiting { listed } => listed.clone(),
        FormationState::Prepared(record) | FormationState::Formed(record) => {
            record.members.iter().map(|(id, ..)| *id).collect()
        }
    }
}
