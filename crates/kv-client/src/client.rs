//! The client: what it keeps between operations, and the loop that carries one operation through.

#![expect(clippy::wildcard_enum_match_arm, reason = "what was not asked for is unexpected, in later versions too")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kv_store::api::{Consistency, Leadership, MemberChange, Members, RequestBody, Response, ResponseBody};
use kv_store::{Answer, ClientId, Command, Envelope, MAX_ENVELOPE_BYTES, Outcome, Principal, Query, Revision};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::backoff::Random;
use crate::call::{Call, Next, Then};
use crate::clock::later;
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::pool::Pool;
use crate::routing::Routing;
use crate::session::{Sessions, Ticket};

/// A client of one cluster. Cheap to clone: clones share connections and session, and their requests travel together.
///
/// Must be used within a tokio runtime with I/O and time.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What all operations share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) pool: Pool,
    principal: Principal,
    routing: Mutex<Routing>,
    sessions: Sessions,
    /// The newest revision that any answer has named: local reads never go behind it.
    seen: AtomicU64,
    random: Mutex<Random>,
}

/// Which state a read is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// The present one.
    Now(Consistency),
    /// That right after a revision.
    At(Revision),
}

/// What an operation asks.
enum Ask {
    Read { query: Query, when: When },
    Write(Write),
    Transfer { to: Option<u64> },
    Members,
    ChangeMembers { change: MemberChange },
}

impl Ask {
    /// Whether it changes something, so that it is in doubt until it is answered.
    const fn changes_something(&self) -> bool {
        match self {
            Self::Write(_) | Self::Transfer { .. } | Self::ChangeMembers { .. } => true,
            Self::Read { .. } | Self::Members => false,
        }
    }

    /// Whether it may be asked again although it may have been done: writes are applied once (rule 8), and a leader that
    /// leads already is no change, nor is a member that is already what was asked for. Only somebody, whoever it is, would
    /// be asked for twice.
    const fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Transfer { to: None })
    }
}

/// A write under way: the command, and its envelope once a server has told the time.
struct Write {
    command: Command,
    sealed: Option<(Ticket, Bytes)>,
}

impl Client {
    /// A client of the cluster that `config` names. Nothing is connected before the first operation.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a configuration that cannot work, [`ErrorKind::Server`] if the operating system gives no
    /// random numbers.
    pub fn connect(config: ClientConfig) -> Result<Self, Error> {
        config.check()?;
        let principal = Principal::new(Bytes::copy_from_slice(&config.principal))
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let shared = Shared {
            principal,
            routing: Mutex::new(Routing::new(config.endpoints.clone())),
            random: Mutex::new(Random::new(random_bits()?)),
            pool: Pool::default(),
            sessions: Sessions::default(),
            seen: AtomicU64::new(0),
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) async fn write(&self, command: Command, call: &mut Call) -> Result<Outcome, Error> {
        let body = self.shared.carry(&mut Ask::Write(Write { command, sealed: None }), call).await?;
        match body {
            ResponseBody::Written(Ok(outcome)) => Ok(outcome),
            other => Err(unexpected(&other).in_doubt(true)),
        }
    }

    pub(crate) async fn ask_for_leader(&self, to: Option<u64>) -> Result<Leadership, Error> {
        match self.shared.carry(&mut Ask::Transfer { to }, &mut self.new_call()).await? {
            ResponseBody::Leadership(leadership) => Ok(leadership),
            other => Err(unexpected(&other).in_doubt(true)),
        }
    }

    pub(crate) async fn ask_for_members(&self, change: Option<MemberChange>) -> Result<Members, Error> {
        let changes = change.is_some();
        let mut ask = change.map_or(Ask::Members, |change| Ask::ChangeMembers { change });
        match self.shared.carry(&mut ask, &mut self.new_call()).await? {
            ResponseBody::Members(members) => Ok(members),
            other => Err(unexpected(&other).in_doubt(changes)),
        }
    }

    /// Reads the present, as fresh as `consistency` says, or the past.
    pub(crate) async fn read(&self, query: Query, when: When) -> Result<Answer, Error> {
        match self.shared.carry(&mut Ask::Read { query, when }, &mut self.new_call()).await? {
            ResponseBody::Answer(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// A new operation, which has the configured time.
    pub(crate) fn new_call(&self) -> Call {
        // A time-out beyond the clock's range is as good as one of a year.
        let now = Instant::now();
        Call::new(now.checked_add(self.shared.config.timeout).unwrap_or(now + Duration::from_secs(31_536_000)))
    }
}

/// The server's answer is of another kind than the question.
pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> Error {
    tracing::debug!(?answer, "not what was asked");
    Error::new(
        ErrorKind::Server,
        "the server answered another question than was asked; are its version and ours apart?",
    )
}

impl Shared {
    /// Carries an operation through, at most until its deadline.
    async fn carry(&self, ask: &mut Ask, call: &mut Call) -> Result<ResponseBody, Error> {
        match timeout_at(call.deadline, self.attempts(ask, call)).await {
            Ok(result) => result,
            Err(_) => Err(call.timed_out()),
        }
    }

    async fn attempts(&self, ask: &mut Ask, call: &mut Call) -> Result<ResponseBody, Error> {
        loop {
            let address = self.address_for(ask);
            let next = self.attempt(&address, ask, call).await?;
            call.tries += 1;
            match next {
                Next::Done(body) => {
                    self.note_seen(&body);
                    return Ok(body);
                }
                Next::Failed(error) => return Err(error),
                Next::Renew { forget_session } => self.renew(ask, forget_session),
                Next::Again(_) if call.in_doubt && !ask.is_idempotent() => return Err(call.timed_out()),
                Next::Again(then) => self.prepare_retry(&address, then, call).await,
            }
            if call.is_too_late_for(self.config.shortest_attempt()) {
                return Err(call.timed_out());
            }
        }
    }

    /// One attempt at one server.
    async fn attempt(&self, address: &str, ask: &mut Ask, call: &mut Call) -> Result<Next, Error> {
        let limit = call.until(self.config.connect_limit(call.tries)).saturating_duration_since(Instant::now());
        let opened = match self.pool.connection(address, limit).await {
            Ok(opened) => opened,
            Err(reason) => return Ok(call.unreachable(reason)),
        };
        if let Some(leader) = opened.leader {
            self.routing().learn_leader(&leader, Instant::now());
        }
        let (body, payload) = self.request(ask, call)?;
        let until = call.until(self.config.answer_limit(call.tries));
        let before = call.in_doubt;
        call.in_doubt = ask.changes_something();
        Ok(match opened.connection.request(body, payload, until).await {
            Ok(response) => {
                self.learn(address, &response);
                call.judge(response, before)
            }
            Err(why) => call.no_answer(address, &why, before),
        })
    }

    /// Local reads are about one node; everything else may go anywhere.
    fn address_for(&self, ask: &Ask) -> String {
        let routing = self.routing();
        match ask {
            Ask::Read { when: When::Now(Consistency::Local | Consistency::LocalFrom { .. }), .. } => {
                routing.first().to_owned()
            }
            Ask::Read { when: When::Now(Consistency::Linearizable | Consistency::Lease) | When::At(_), .. }
            | Ask::Write(_)
            | Ask::Transfer { .. }
            | Ask::Members
            | Ask::ChangeMembers { .. } => routing.choose().to_owned(),
        }
    }

    /// The endpoints, from any of them on: watches are told by all nodes alike, and the leader has enough to do.
    pub(crate) fn endpoints_in_any_order(&self) -> impl Iterator<Item = &String> {
        let endpoints = &self.config.endpoints;
        let first = self.random.lock().unwrap_or_else(PoisonError::into_inner).below(endpoints.len());
        endpoints.iter().cycle().skip(first)
    }

    /// A local read of a client that has seen something must not show less.
    fn not_behind(&self, consistency: Consistency) -> Consistency {
        let seen = Revision(self.seen.load(Ordering::Acquire));
        match consistency {
            Consistency::Local if seen > Revision(0) => Consistency::LocalFrom { revision: seen },
            Consistency::LocalFrom { revision } => Consistency::LocalFrom { revision: revision.max(seen) },
            Consistency::Linearizable | Consistency::Lease | Consistency::Local => consistency,
        }
    }

    /// Remembers how far the store had come. A state hash names a revision that may be chosen by whoever asks.
    fn note_seen(&self, body: &ResponseBody) {
        let revision = match body {
            ResponseBody::Written(Ok(outcome)) => outcome.revision,
            ResponseBody::Answer(answer) => answer.revision,
            ResponseBody::Members(members) => members.revision,
            ResponseBody::Written(Err(_))
            | ResponseBody::NodeStatus(_)
            | ResponseBody::StateHash { .. }
            | ResponseBody::Leadership(_)
            | ResponseBody::Unwatched => return,
        };
        self.seen.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn learn(&self, address: &str, response: &Response) {
        let mut routing = self.routing();
        routing.worked(address);
        if let Some(leader) = &response.leader {
            routing.learn_leader(&leader.address, Instant::now());
        }
    }

    async fn prepare_retry(&self, address: &str, then: Then, call: &mut Call) {
        let is_round_over = call.tries.is_multiple_of(self.config.endpoint_count());
        match then {
            Then::Elsewhere => self.routing().failed(address, Instant::now()),
            Then::Later => self.routing().move_on(address),
        }
        // A dead endpoint is no reason to let the next one wait; a whole round of them is.
        if then == Then::Later || is_round_over {
            let pause = call.pause(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner));
            sleep(pause).await;
        }
    }

    /// Our idea of cluster time was wrong: shake hands again and make a new envelope.
    fn renew(&self, ask: &mut Ask, forget_session: bool) {
        self.pool.renew(forget_session);
        if let Ask::Write(write) = ask
            && let Some((ticket, _)) = write.sealed.take()
            && forget_session
        {
            self.sessions.forget(ticket.header().client);
        }
    }

    /// What goes over the wire. A write is sealed once, at its first attempt: the bytes of a retry are the same.
    fn request(&self, ask: &mut Ask, call: &Call) -> Result<(RequestBody, Bytes), Error> {
        match ask {
            Ask::Read { query, when } => {
                let query = query.clone();
                let body = match *when {
                    When::Now(consistency) => RequestBody::Read { query, consistency: self.not_behind(consistency) },
                    When::At(revision) => RequestBody::ReadAt { query, revision },
                };
                Ok((body, Bytes::new()))
            }
            Ask::Members => Ok((RequestBody::Members, Bytes::new())),
            Ask::ChangeMembers { change } => Ok((RequestBody::ChangeMembers { change: change.clone() }, Bytes::new())),
            Ask::Transfer { to } => Ok((RequestBody::TransferLeadership { to: *to }, Bytes::new())),
            Ask::Write(write) => {
                let sealed = match write.sealed.take() {
                    Some(sealed) => sealed,
                    None => self.seal(&write.command, call)?,
                };
                let payload = sealed.1.clone();
                write.sealed = Some(sealed);
                Ok((RequestBody::Write, payload))
            }
        }
    }

    fn seal(&self, command: &Command, call: &Call) -> Result<(Ticket, Bytes), Error> {
        let now = self.pool.cluster_time();
        let deadline = later(now, call.deadline.saturating_duration_since(Instant::now()));
        let ticket = self.sessions.begin(now, deadline, || random_bits().map(ClientId))?;
        let envelope =
            Envelope { session: *ticket.header(), principal: self.principal.clone(), command: command.clone() };
        let bytes = envelope.encode();
        if bytes.len() > MAX_ENVELOPE_BYTES {
            let message = format!("the request has {} bytes, the limit is {MAX_ENVELOPE_BYTES}", bytes.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok((ticket, bytes))
    }

    pub(crate) fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 bits that no other client has.
fn random_bits() -> Result<u128, Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| {
        Error::new(ErrorKind::Server, format!("the operating system gives no random numbers: {error}"))
    })?;
    Ok(u128::from_le_bytes(bits))
}
