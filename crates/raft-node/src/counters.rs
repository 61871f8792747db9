//! What has happened since the start, counted where it happens.

/// Counters of one server, since its start. They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Elections this server stood in.
    pub elections_started: u64,
    /// Elections it won.
    pub elections_won: u64,
    /// How often it stopped leading.
    pub step_downs: u64,
    /// Transfers of the leadership it began.
    pub transfers_begun: u64,
    /// Commands it appended as leader.
    pub commands_proposed: u64,
    /// Batches they came in: one AppendEntries a follower each.
    pub batches_proposed: u64,
    /// Proposals it refused, for whatever reason.
    pub proposals_refused: u64,
    /// Proposals it passed on to the leader.
    pub proposals_forwarded: u64,
    /// Commands applied to the state machine.
    pub commands_applied: u64,
    /// Linearizable reads asked for.
    pub reads: u64,
    /// Questions for a read index that they shared.
    pub read_batches: u64,
    /// Local reads asked for.
    pub local_reads: u64,
    /// Snapshots it took of its own state.
    pub snapshots_taken: u64,
    /// Snapshots of a leader's that took the place of its state.
    pub snapshots_installed: u64,
    /// Messages to peers.
    pub messages_sent: u64,
    /// Messages from peers.
    pub messages_received: u64,
    /// Messages in which a peer broke the protocol.
    pub misbehaviours: u64,
    /// Writes given to the disk.
    pub writes_issued: u64,
    /// Writes the disk has confirmed.
    pub writes_confirmed: u64,
}
