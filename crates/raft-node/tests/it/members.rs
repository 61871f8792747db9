//! Clusters whose members change: newcomers, and what they are told.

use std::time::Duration;

use raft_core::{Configuration, NodeId, RoleName, Standing};
use raft_node::{Answer, MemberRequest, Members};

use crate::cluster::{Cluster, PATIENCE, Request, Server, address_of};

impl Cluster {
    /// A server with an empty disk that is to join, and looks for the members at `seeds`; it is not started.
    pub(crate) fn add_newcomer(&mut self, id: NodeId, seeds: &[NodeId]) {
        self.servers.insert(id, Server { seeds: seeds.to_vec(), ..Server::new() });
    }

    /// A newcomer asks at the addresses it was given who is there.
    pub(crate) fn seek_members(&mut self, id: NodeId) {
        if !self.replica(id).seeks_members() {
            return;
        }
        for seed in self.servers[&id].seeds.clone() {
            let is_reachable = !self.cut.contains(&(id, seed)) && !self.cut.contains(&(seed, id));
            if is_reachable && self.servers.contains_key(&seed) && self.is_running(seed) {
                let cluster = self.replica(seed).cluster();
                let running = self.servers.get_mut(&id).unwrap().running.as_mut().unwrap();
                running.replica.note_seed(seed, address_of(seed), cluster);
            }
        }
    }

    /// Asks for a change of the membership.
    pub(crate) fn change(&mut self, at: NodeId, request: MemberRequest) -> Request {
        let number = self.note_request(at);
        let deadline = self.now.after(PATIENCE);
        self.with(at, |replica, now| replica.change_membership(now, number, request, deadline));
        number
    }

    /// Adds a server at the leader, as a learner or until it votes.
    pub(crate) fn add(&mut self, id: NodeId, becomes_voter: bool) -> Request {
        let leader = self.leads().expect("somebody leads");
        self.change(leader, MemberRequest::Add { id, address: address_of(id), becomes_voter })
    }

    /// Waits for the answer to a change, which must be that it was done.
    #[track_caller]
    pub(crate) fn wait_for_members(&mut self, request: Request) -> Members {
        let answer = self.wait_for(request);
        let Answer::Members(members) = answer else { panic!("the members were not changed: {answer:?}") };
        members
    }

    pub(crate) fn configuration(&self, at: NodeId) -> &Configuration {
        self.replica(at).configuration().expect("the cluster has formed")
    }

    pub(crate) fn votes_at(&self, at: NodeId, id: NodeId) -> bool {
        self.configuration(at).standing(id) == Some(&Standing::Voter)
    }

    /// The one that leads, whoever follows it.
    pub(crate) fn leads(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| self.is_running(*id) && self.replica(*id).status().role == Some(RoleName::Leader);
        self.ids().into_iter().find(leads)
    }

    /// Runs until somebody leads that is not `other`.
    #[track_caller]
    pub(crate) fn wait_for_leader_besides(&mut self, other: NodeId) -> NodeId {
        assert!(self.run_until(|cluster| cluster.leads().is_some_and(|leader| leader != other)), "nobody else leads");
        self.leads().unwrap()
    }

    /// Runs until every running server has applied all that the leader has committed.
    #[track_caller]
    pub(crate) fn catch_up(&mut self, id: NodeId) {
        self.run_for(Duration::from_secs(2));
        let leader = self.leads().expect("somebody leads");
        assert_eq!(
            self.replica(id).machine().numbers,
            self.replica(leader).machine().numbers,
            "{id} has what {leader} has"
        );
    }
}
