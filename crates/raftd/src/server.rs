//! The running server: a node with the store as its machine and the client service at its door.

use std::collections::BTreeMap;

use raft_core::NodeId;
use raft_node::{Limits, Node, NodeConfig, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::config::{Config, HostPort};
use crate::exit::{ExitStatus, RunError};
use crate::logging;
use crate::machine::KvMachine;
use crate::service::{ClientService, ServiceLimits};

/// The bytes of a request's frame besides its envelope; generous.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Serves until it is told to stop by SIGTERM or SIGINT; a second signal ends the process at once.
///
/// # Errors
/// Whatever ends the process otherwise.
pub fn run(config: &Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::failed_at("cannot start the signal handler", error))?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), RunError> {
    // Before anything is opened, so that no signal finds the default handler.
    let mut signals = Signals::install()?;
    let limits = config.limits();
    let service = ClientService::new(ServiceLimits {
        key_bytes: limits.key_bytes,
        value_bytes: limits.value_bytes,
        request_bytes: limits.request_bytes.min(raft_storage::MAX_ENTRY_BYTES as u64),
        transaction_operations: usize::try_from(limits.transaction_operations).unwrap_or(usize::MAX),
        policy: config.policy(),
        ..ServiceLimits::default()
    });
    let mut node = Node::start_with_service(node_config(config), KvMachine::new(), service).map_err(start_error)?;
    let address = config.listen().with_port(node.address().port());
    info!(node = config.id().as_u64(), listen = %address, data_dir = %config.data_dir().display(), "ready");
    logging::print_ready(config.id(), &address)
        .map_err(|error| RunError::failed_at("cannot say that it is ready", error))?;
    let handle = node.handle();
    tokio::select! {
        ended = node.ended() => return ended.map_err(RunError::failed),
        name = signals.next() => info!("{name}: stopping"),
    }
    handle.stop().await;
    tokio::select! {
        ended = node.ended() => ended.map_err(RunError::failed),
        name = signals.next() => {
            warn!("{name} again: stopping at once");
            std::process::exit(i32::from(ExitStatus::Done.code()));
        }
    }
}

/// The two signals that stop the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, RunError> {
        let install = |kind| signal(kind).map_err(|error| RunError::failed_at("cannot handle signals", error));
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn node_config(config: &Config) -> NodeConfig {
    let limits = config.limits();
    let timers = config.timers();
    let to_usize = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let mut node = NodeConfig::new(config.id(), config.data_dir(), config.listen().to_string());
    node.peer_listen = config.peer_listen().map(ToString::to_string);
    // Port 0 stands for the port that the socket gets.
    node.advertise = Some(config.client_address(0).to_string());
    node.advertise_peer = config.advertise_peer().map(ToString::to_string);
    node.join = config.join().iter().map(ToString::to_string).collect();
    node.cluster = config.cluster().map(addresses).unwrap_or_default();
    node.dial = addresses(config.dial());
    node.election_timeout_min = timers.election_timeout_min;
    node.election_timeout_max = timers.election_timeout_max;
    node.heartbeat_interval = timers.heartbeat_interval;
    node.segment_size_bytes = config.segment_size_bytes();
    node.snapshot_threshold_bytes = config.snapshot_threshold_bytes();
    // A tail as long as the threshold would leave nothing to compact.
    node.log_tail_bytes = node.log_tail_bytes.min(to_usize(config.snapshot_threshold_bytes() / 2));
    node.limits = Limits {
        max_clients: to_usize(limits.connections),
        max_requests_in_flight: to_usize(limits.requests_in_flight),
        // Larger requests than the limit are read too, so that they can be answered with the limit.
        max_client_frame_bytes: to_usize(limits.request_bytes).max(kv_store::MAX_ENVELOPE_BYTES) + MAX_HEADER_BYTES,
        handshake_timeout: limits.handshake,
        ..Limits::default()
    };
    node
}

fn addresses(members: &BTreeMap<NodeId, HostPort>) -> BTreeMap<NodeId, String> {
    members.iter().map(|(&id, address)| (id, address.to_string())).collect()
}

fn start_error(error: StartError) -> RunError {
    match error {
        StartError::Storage(error) => error.into(),
        StartError::NoCluster | StartError::NotInCluster { .. } => RunError::Usage(error.to_string()),
        StartError::Protocol(_) | StartError::Listen { .. } | StartError::System { .. } => RunError::failed(error),
        StartError::FormationLost | StartError::Restore(_) => RunError::damaged(error),
        other => RunError::failed(other),
    }
}
