//! One executor of a node: its listeners, its connections, its shards.
//!
//! Every core accepts clients and peers on the same ports. A client's requests find their shard through the gateway; a peer's
//! connection is handed to the core that owns its shard.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::{AsyncWriteExt, FutureExt};
use glommio::channels::channel_mesh::{Full, MeshBuilder, Receivers, Senders};
use glommio::net::TcpListener;
use net::handshake::{Hello, HelloRole, PROTOCOL_VERSION, Welcome};
use net::patience;
use net::shell::{
    GreetError, Greeting, LinkEvent, PeerLink, PeerLinkOptions, Resolver, Stream, attach, detach, limit_patience,
    listen,
};

use super::callers::Callers;
use super::classes::{Class, Classes, Slice, give_way};
use super::client_conn::ClientConn;
use super::client_requests;
use super::door::{Door, Port, TurnedAway};
use super::gateway::{Gateway, Waiting};
use super::greetings::GreetingPlace;
use super::guests::{self, Guest, Guests};
use super::handle::HandleCall;
use super::helpers::Helpers;
use super::http::{self, ProbeConn, Probes};
use super::limits::{
    self, ACCEPT_PAUSE_MS, BULK_QUEUE_BYTES, CONTROL_QUEUE_BYTES, HAND_OVER_MS_MAX, LAST_ANSWERS_MS_MAX, LINGER_MS_MAX,
    PROBES, QUIET_MS, RELAY_QUEUE_BYTES, SILENCE_LOOK_PAUSE, SILENT_AFTER, STOP_STEP_MS,
};
use super::links::PeerLinks;
use super::mesh::{Mesh, MeshMessage};
use super::metrics::NodeMetrics;
use super::partial::Partials;
use super::peer_conn;
use super::replies::Replies;
use super::room::Room;
use super::roster::Roster;
use super::said::{Complaint, Said};
use super::shard::{Shard, ShardParts};
use super::silence::{ShardChange, Silence};
use super::slow_clients;
use super::starting::Starting;
use super::status::StatusBoard;
use crate::call::Origin;
use crate::config::{Member, ValidConfig};
use crate::desk::DeskLimits;
use crate::replica::{Event, Lane};
use crate::types::{NodeId, ShardId};

/// What all cores of a node share.
#[derive(Clone)]
pub struct Shared {
    /// The node's settings.
    pub config: Arc<ValidConfig>,
    /// What its shards show.
    pub board: StatusBoard,
    /// Who their members are.
    pub(super) roster: Roster,
    /// Its figures.
    pub metrics: Arc<NodeMetrics>,
    /// Limits of its gateways.
    pub limits: DeskLimits,
    /// Connections it may have.
    pub room: Room,
    /// Client connections it has.
    pub connections: Arc<AtomicUsize>,
    /// Connections of probes it has.
    pub probes: Arc<AtomicUsize>,
    /// Requests that wait for an answer.
    pub waiting: Arc<AtomicU64>,
    /// Finds the addresses of peers.
    pub resolver: Resolver,
    /// What may block is done by these.
    pub helpers: Helpers,
}

/// What one core is started with.
pub struct CoreParts {
    /// Its number, from 0.
    pub core: usize,
    /// What all cores share.
    pub shared: Shared,
    /// The shards it owns.
    pub shards: Vec<ShardParts>,
    /// The node's mesh, if it has more than one core.
    pub mesh: Option<MeshBuilder<MeshMessage, Full>>,
    /// Calls of handles; one core takes them.
    pub(super) callers: Option<Callers>,
    /// Closes when the node is to stop.
    pub stop: async_channel::Receiver<()>,
    /// Brings a word when the shards may start. Closes if they may not.
    pub(super) go: async_channel::Receiver<()>,
    /// Is told once this core is prepared and once it listens, or why it cannot.
    pub starting: Starting,
}

struct Core {
    number: usize,
    shared: Shared,
    gateway: Rc<Gateway>,
    mesh: Rc<Mesh>,
    shards: Vec<Rc<Shard>>,
    /// Complaints about strangers.
    said: Said,
    door: Door,
    clients: Rc<Guests<ClientConn>>,
    probes: Rc<Guests<ProbeConn>>,
    /// Messages of peers of which only a part has arrived.
    peer_partials: Rc<Partials>,
    stopping: Cell<bool>,
    classes: Classes,
}

/// Runs one core until the node stops, and returns what is left of it then, if its start came that far. Its tasks have not ended: answers
/// of other cores may still be on their way.
pub(super) async fn run(parts: CoreParts, classes: Classes) -> Option<Remains> {
    let listeners = listen_all(&parts.shared.config);
    let connected = connect_cores(parts.mesh, &parts.starting, &parts.stop).await;
    let prepared = match connected {
        Ok(ends) => {
            once_all_are_prepared(listeners, &parts.starting, &parts.go).await.map(|listeners| (listeners, ends))
        }
        Err(reason) => Err(reason),
    };
    let (listeners, (senders, receivers)) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            parts.starting.tell(Err(reason));
            return None;
        }
    };
    let cores = parts.shared.config.cores() as usize;
    let mesh = Mesh::new(cores, senders, parts.shared.metrics.core_answers_dropped.clone());
    let (board, roster, helpers) = (&parts.shared.board, &parts.shared.roster, &parts.shared.helpers);
    let open = |shard| Shard::new(shard, board, roster, helpers, classes.clone());
    let shards: Vec<Rc<Shard>> = parts.shards.into_iter().map(open).collect();
    let mut by_number = vec![None; parts.shared.limits.shard_count as usize];
    for shard in &shards {
        by_number[shard.id().get() as usize] = Some(Rc::clone(shard));
    }
    let board = parts.shared.board.clone();
    let hints = Rc::new(move |shard| board.leader_hint(shard));
    let waiting = Arc::clone(&parts.shared.waiting);
    let gateway = Gateway::new(parts.core, parts.shared.limits, by_number, Rc::clone(&mesh), waiting, hints);
    let Shared { config, resolver, metrics, room, connections, probes, .. } = parts.shared.clone();
    let core = Rc::new(Core {
        number: parts.core,
        peer_partials: peer_conn::partials(limits::body_bytes_max(config.segment_bytes())),
        clients: Guests::new(connections, room.connections, metrics.connections_made_room.clone()),
        probes: Guests::new(probes, PROBES, metrics.probes_made_room.clone()),
        door: Door::new(config, parts.shared.roster.clone(), resolver, metrics, room.greetings),
        shared: parts.shared,
        gateway,
        mesh,
        shards,
        said: Said::default(),
        stopping: Cell::new(false),
        classes,
    });
    core.start(listeners, parts.callers);
    if let Some(receivers) = receivers {
        core.hear_other_cores(receivers);
    }
    parts.starting.tell(Ok(()));
    // The channel carries nothing: it ends when the node is to stop.
    let _closed = parts.stop.recv().await;
    core.stop().await;
    Some(Remains(core))
}

/// A core that has stopped.
pub(super) struct Remains(Rc<Core>);

impl Remains {
    /// Drops what the core had, once its tasks have ended: logs, mappings, connections. Returns whether all of it is gone, and names in
    /// the log what is not.
    pub(super) fn end(self) -> bool {
        let (core, number) = (Rc::downgrade(&self.0), self.0.number);
        let shards: Vec<_> = self.0.shards.iter().map(|shard| (shard.id(), Rc::downgrade(shard))).collect();
        drop(self);
        for (shard, _) in shards.iter().filter(|(_, shard)| shard.strong_count() > 0) {
            tracing::error!(
                shard = shard.get(),
                "the shard is still held; its log stays mapped until this process ends"
            );
        }
        if core.strong_count() > 0 {
            tracing::error!(core = number, "the core is still held; its memory stays until this process ends");
        }
        core.strong_count() == 0 && shards.iter().all(|(_, shard)| shard.strong_count() == 0)
    }
}

/// The ends of the mesh on this core, if there are others. A core that is not coming must not keep this one waiting: the start has failed
/// then.
async fn connect_cores(
    mesh: Option<MeshBuilder<MeshMessage, Full>>,
    starting: &Starting,
    stop: &async_channel::Receiver<()>,
) -> Result<(Option<Senders<MeshMessage>>, Option<Receivers<MeshMessage>>), String> {
    let Some(builder) = mesh else { return Ok((None, None)) };
    let stopped = async {
        let _closed = stop.recv().await;
        Err("another core did not start".to_owned())
    };
    let joined = async { builder.join().await.map_err(|error| format!("the cores cannot be connected: {error}")) };
    starting.is_at("waiting for the other cores");
    let (senders, receivers) = joined.or(stopped).await?;
    Ok((Some(senders), Some(receivers)))
}

/// Waits until nothing is left on any core that keeps a shard from starting.
async fn once_all_are_prepared(
    listeners: Result<Listeners, String>,
    starting: &Starting,
    go: &async_channel::Receiver<()>,
) -> Result<Listeners, String> {
    let listeners = listeners?;
    starting.is_prepared();
    go.recv().await.map_err(|_closed| "another core did not start".to_owned())?;
    starting.is_at("starting its shards");
    Ok(listeners)
}

/// If another connection had to make room for this one, lets its task run first, so that it closes. Until then this connection keeps the
/// place of its greeting as well, so that never more connections are open than there are places of both kinds.
async fn once_others_left<G: Guest>(place: &guests::GuestPlace<G>, greeting: GreetingPlace) {
    if place.made_room() {
        give_way().await;
    }
    drop(greeting);
}

/// Who is at the other end of a connection, for people.
fn address_of(stream: &Stream) -> String {
    stream.peer_addr().map_or_else(|_| "an address that is gone".to_owned(), |address| address.to_string())
}

/// True if the caller went before it said who it is, as a check that connects and nothing more does.
fn is_gone(error: &GreetError) -> bool {
    matches!(error, GreetError::Io(error) if error.kind() != std::io::ErrorKind::TimedOut)
}

/// What a caller of the client port speaks instead of what is served there, if it can be told.
fn foreign_protocol(error: &GreetError) -> Option<&'static str> {
    let GreetError::Unknown(first) = error else { return None };
    Some(match first.as_slice() {
        // A record of a handshake. Source: RFC 8446, 5.1.
        [0x16, ..] => "TLS, which is not built yet: write http:// and no certificates",
        // The preface is "PRI * HTTP/2.0". Source: RFC 9113, 3.4.
        [b'P', b'R', ..] => "HTTP/2, as gRPC does: etcd's API is not built yet",
        _ => "something else",
    })
}

/// Logs what happened to a link.
fn tell_link(shard: ShardId, peer: &str, role: HelloRole, event: &LinkEvent, left_out: u64) {
    match event {
        LinkEvent::Up { .. } => tracing::debug!(shard = shard.get(), peer, ?role, left_out, "connected"),
        LinkEvent::Down { reason } => {
            tracing::debug!(shard = shard.get(), peer, ?role, %reason, left_out, "disconnected")
        }
        LinkEvent::Failed { reason } => {
            tracing::debug!(shard = shard.get(), peer, ?role, %reason, left_out, "cannot connect; trying again");
        }
        LinkEvent::Refused { verdict, message } => {
            tracing::error!(shard = shard.get(), peer, ?verdict, reason = ?message, left_out, "the peer refuses this node");
        }
    }
}

async fn send(stream: &mut Stream, welcome: &Welcome) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    welcome.encode(&mut bytes);
    stream.write_all(&bytes).await
}

/// The class of work that a lane brings.
const fn class_of(lane: Lane) -> Class {
    match lane {
        Lane::Control => Class::Control,
        Lane::Bulk => Class::Commit,
        Lane::Relay => Class::Serving,
    }
}

/// What a peer sends on a connection of this role; `None` for a client's.
const fn lane_of(role: HelloRole) -> Option<Lane> {
    match role {
        HelloRole::Client => None,
        HelloRole::PeerControl => Some(Lane::Control),
        HelloRole::PeerBulk => Some(Lane::Bulk),
        HelloRole::PeerRelay => Some(Lane::Relay),
    }
}

struct Listeners {
    clients: Vec<TcpListener>,
    peers: Vec<TcpListener>,
}

fn listen_all(config: &ValidConfig) -> Result<Listeners, String> {
    let open = |addresses: &[std::net::SocketAddr]| {
        let opened = addresses
            .iter()
            .map(|address| listen(*address).map_err(|error| format!("cannot listen on {address}: {error}")));
        opened.collect::<Result<Vec<_>, _>>()
    };
    Ok(Listeners { clients: open(config.listen_client())?, peers: open(config.listen_peer())? })
}

impl Core {
    fn start(self: &Rc<Self>, listeners: Listeners, callers: Option<Callers>) {
        for mover in self.mesh.movers() {
            self.classes.spawn(Class::Serving, mover);
        }
        for partials in [self.gateway.partials(), &self.peer_partials] {
            self.classes.spawn(Class::Serving, Rc::clone(partials).sweep_now_and_then());
        }
        self.classes.spawn(Class::Serving, Rc::clone(&self.gateway).tell_unwanted());
        let slow = slow_clients::watch(Rc::clone(&self.gateway), Arc::clone(&self.shared.metrics));
        self.classes.spawn(Class::Serving, slow);
        if self.shared.config.cores() > 1 {
            let core = Rc::clone(self);
            self.classes.spawn(Class::Control, async move { core.watch_other_cores().await });
        }
        for shard in &self.shards {
            let core = Rc::downgrade(self);
            let linker = move |shard: &Rc<Shard>, node| core.upgrade()?.link_peer(shard, node);
            let replies: Rc<dyn Replies> = Rc::clone(&self.gateway) as _;
            shard.start(Rc::downgrade(&replies), Box::new(linker));
        }
        for listener in listeners.clients {
            let core = Rc::clone(self);
            self.classes.spawn(Class::Serving, async move { core.accept(listener, Port::Client).await });
        }
        for listener in listeners.peers {
            let core = Rc::clone(self);
            self.classes.spawn(Class::Control, async move { core.accept(listener, Port::Peer).await });
        }
        if let Some(callers) = callers {
            let core = Rc::clone(self);
            self.classes.spawn(Class::Serving, async move {
                let slice = Slice::default();
                while let Some(asked) = callers.next().await {
                    let bytes = asked.call.payload.len();
                    core.on_handle(asked);
                    slice.spend(bytes).await;
                }
            });
        }
    }

    /// Takes what other cores send.
    fn hear_other_cores(self: &Rc<Self>, mut receivers: Receivers<MeshMessage>) {
        for (_, receiver) in receivers.streams() {
            let core = Rc::clone(self);
            self.classes.spawn(Class::Serving, async move {
                let slice = Slice::default();
                while let Some(message) = receiver.recv().await {
                    let bytes = message.bytes();
                    core.on_message(message);
                    slice.spend(bytes).await;
                }
            });
        }
    }

    /// Starts all lanes to a member. `None` if the settings have no address of it: nothing but the settings says where members are.
    fn link_peer(&self, shard: &Rc<Shard>, node: NodeId) -> Option<PeerLinks> {
        let Some(member) = self.shared.config.members().iter().find(|member| member.id == node) else {
            tracing::error!(shard = shard.id().get(), %node, "the log names a member of which --initial-cluster has no address");
            return None;
        };
        Some(PeerLinks {
            control: self.link(shard, member, HelloRole::PeerControl, CONTROL_QUEUE_BYTES),
            bulk: self.link(shard, member, HelloRole::PeerBulk, BULK_QUEUE_BYTES),
            relay: self.link(shard, member, HelloRole::PeerRelay, RELAY_QUEUE_BYTES),
        })
    }

    fn link(&self, shard: &Rc<Shard>, member: &Member, role: HelloRole, queue_bytes_limit: usize) -> PeerLink {
        let config = &self.shared.config;
        let hello = Hello {
            version: PROTOCOL_VERSION,
            role,
            shard_count: config.shards(),
            shard: shard.id().get(),
            cluster: 0,
            from: config.node_id().get(),
            to: member.id.get(),
            nonce: 0,
            name: config.name().to_owned(),
        };
        let authorities = member.peer_urls.iter().map(crate::config::Url::authority).collect();
        let resolver = self.shared.resolver.clone();
        let cluster_id = config.cluster_id().get();
        let options = PeerLinkOptions { authorities, resolver, cluster_id, hello, queue_bytes_limit };
        let (id, name) = (member.id, member.name.clone());
        let (shard, board) = (Rc::downgrade(shard), self.shared.board.clone());
        let (link, running) = PeerLink::new(options, move |event| {
            let Some(shard) = shard.upgrade() else { return };
            if let Some(left_out) = shard.may_say(Complaint::Link) {
                tell_link(shard.id(), &name, role, &event, left_out);
            }
            match event {
                LinkEvent::Up { client_url } => {
                    board.note_client_url(id, &client_url);
                    shard.link_up(id);
                }
                LinkEvent::Down { reason } => shard.link_lost(id, &reason),
                LinkEvent::Failed { reason } => shard.link_failed(id, &reason),
                LinkEvent::Refused { .. } => {}
            }
        });
        self.classes.spawn_here(Class::Commit, running);
        link
    }

    /// Keeps clients from waiting for shards of other cores that hang, until the node stops.
    async fn watch_other_cores(&self) {
        let board = &self.shared.board;
        let mut silence = Silence::new(self.shared.limits.shard_count);
        while !self.stopping.get() {
            glommio::timer::sleep(SILENCE_LOOK_PAUSE).await;
            for change in silence.look(&board.post_counts()) {
                match change {
                    // This core has just shown that it does not hang.
                    ShardChange::FellSilent(shard) if self.gateway.shard(shard).is_some() => {}
                    ShardChange::FellSilent(shard) => {
                        tracing::warn!(shard = shard.get(), within = ?SILENT_AFTER, "a shard says nothing: its core hangs");
                        board.note_silent(shard);
                        self.gateway.shard_fell_silent(shard).await;
                    }
                    ShardChange::Speaks(shard) => {
                        tracing::info!(shard = shard.get(), "a shard whose core hung goes on");
                        self.gateway.shard_speaks(shard);
                    }
                }
            }
        }
    }

    /// Accepts connections until the node stops.
    async fn accept(self: Rc<Self>, listener: TcpListener, port: Port) {
        let slice = Slice::default();
        while !self.stopping.get() {
            slice.spend(0).await;
            match listener.accept().await {
                Ok(stream) => {
                    let Some(place) = self.door.place(&stream, port) else { continue };
                    let took_anothers = place.took_anothers();
                    let core = Rc::clone(&self);
                    match port {
                        Port::Client => self
                            .classes
                            .spawn_here(Class::Serving, async move { core.greet_client(stream, place).await }),
                        Port::Peer => {
                            self.classes.spawn_here(Class::Control, async move { core.greet_peer(stream, place).await })
                        }
                    }
                    if took_anothers {
                        // The connection that lost its place closes first: its task is ready and runs before this one.
                        give_way().await;
                    }
                }
                Err(error) => {
                    if let Some(left_out) = self.said.may_say(Complaint::NotAccepted) {
                        tracing::warn!(%error, left_out, "a connection could not be accepted");
                    }
                    glommio::timer::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }

    async fn greet_client(&self, mut stream: Stream, place: GreetingPlace) {
        let greeting = match Box::pin(self.admit_client(&mut stream, &place)).await {
            Ok(greeting) => greeting,
            Err(error) => {
                if !is_gone(&error) {
                    self.shared.metrics.connections_refused.inc();
                }
                if let Some(spoken) = foreign_protocol(&error)
                    && let Some(left_out) = self.said.may_say(Complaint::ForeignClient)
                {
                    let address = address_of(&stream);
                    tracing::warn!(
                        address,
                        spoken,
                        left_out,
                        "refused a client connection: only Quorate's own protocol and HTTP/1 are served"
                    );
                }
                tracing::debug!(%error, "a client connection ended before it was served");
                return;
            }
        };
        let served = match greeting {
            // In boxes, so that a connection takes no memory for the other kind, nor for its greeting.
            Greeting::Http(already_read) => Box::pin(self.serve_probe(stream, place, already_read)).await,
            Greeting::Native(hello) => Box::pin(self.serve_client(stream, place, &hello)).await,
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a client connection ended before it was served");
        }
    }

    async fn admit_client(&self, stream: &mut Stream, place: &GreetingPlace) -> Result<Greeting, GreetError> {
        stream.set_nodelay(true).map_err(std::io::Error::from)?;
        limit_patience(stream, patience::CLIENTS);
        self.door.greet(stream, place).await
    }

    async fn serve_probe(&self, stream: Stream, greeting: GreetingPlace, already_read: Vec<u8>) -> std::io::Result<()> {
        let address = stream.peer_addr().map_err(std::io::Error::from)?.ip();
        let probe = Rc::new(ProbeConn::default());
        let Some(place) = self.probes.enter(&probe, address) else {
            self.shared.metrics.connections_refused.inc();
            return Ok(());
        };
        once_others_left(&place, greeting).await;
        let probes = Probes { board: self.shared.board.clone(), metrics: Arc::clone(&self.shared.metrics) };
        http::serve(stream, already_read, probes, &probe).await
    }

    async fn serve_client(&self, mut stream: Stream, greeting: GreetingPlace, hello: &Hello) -> std::io::Result<()> {
        let address = stream.peer_addr().map_err(std::io::Error::from)?;
        let conn = Rc::new(self.gateway.new_conn(address, self.shared.metrics.clients.clone()));
        let admitted = match self.door.judge_client(hello, self.stopping.get()) {
            Some(refusal) => Err(refusal),
            None => self.clients.enter(&conn, address.ip()).ok_or_else(|| TurnedAway::busy(self.clients.limit())),
        };
        let welcome = self.door.welcome_client(admitted.as_ref().err(), self.gateway.told());
        let (metrics, board) = (&self.shared.metrics, self.shared.board.clone());
        metrics.client_connections.set(self.clients.total() as u64);
        if let Ok(place) = &admitted {
            once_others_left(place, greeting).await;
        }
        send(&mut stream, &welcome).await?;
        match admitted {
            Ok(place) => {
                self.gateway.note_conn(&conn);
                let damage = client_requests::serve(stream, conn, place, Rc::clone(&self.gateway), board).await;
                metrics.client_connections.set(self.clients.total() as u64);
                if let Some(error) = damage {
                    metrics.client_frames_damaged.inc();
                    if let Some(left_out) = self.said.may_say(Complaint::ClientFrame) {
                        tracing::warn!(%address, %error, left_out, "closed a client connection");
                    }
                }
            }
            Err(TurnedAway { verdict, said, .. }) => {
                metrics.connections_refused.inc();
                if let Some(left_out) = self.said.may_say(Complaint::ClientRefused) {
                    tracing::warn!(%address, ?verdict, reason = %said, left_out, "refused a client connection");
                }
            }
        }
        Ok(())
    }

    async fn greet_peer(&self, mut stream: Stream, place: GreetingPlace) {
        if let Err(error) = self.admit_peer(&mut stream, &place).await {
            self.shared.metrics.peer_connections_refused.inc();
            if let Some(left_out) = self.said.may_say(Complaint::Stranger) {
                let address = address_of(&stream);
                tracing::warn!(%address, %error, left_out, "a connection to the peer port was not taken");
            }
        }
    }

    /// Greets a peer and brings its connection to the core of its shard.
    async fn admit_peer(&self, stream: &mut Stream, place: &GreetingPlace) -> Result<(), GreetError> {
        stream.set_nodelay(true).map_err(std::io::Error::from)?;
        limit_patience(stream, patience::PEERS);
        let hello = match self.door.greet(stream, place).await? {
            Greeting::Native(hello) => hello,
            Greeting::Http(_) => {
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).await?;
                return Ok(());
            }
        };
        let lane = lane_of(hello.role);
        let refusal = self.door.judge_peer(&hello, self.stopping.get());
        send(stream, &self.door.welcome_peer(&hello, refusal.as_ref())).await?;
        if let Some(TurnedAway { verdict, said, .. }) = refusal {
            self.shared.metrics.peer_connections_refused.inc();
            if let Some(left_out) = self.said.may_say(Complaint::PeerRefused) {
                let address = address_of(stream);
                // The name is the caller's, and may hold any text: it must not look like lines of the log.
                tracing::error!(%address, peer = ?hello.name, ?verdict, reason = %said, left_out, "refused a peer");
            }
            return Ok(());
        }
        let Some(lane) = lane else { return Ok(()) };
        let (from, shard) = (NodeId::new(hello.from), ShardId::new(hello.shard));
        let connection = detach(stream)?;
        match self.gateway.shard(shard) {
            Some(shard) => self.serve_peer(shard, from, lane, attach(connection)),
            None => self.mesh.send(self.mesh.owner(shard), MeshMessage::Peer { shard, from, lane, connection }),
        }
        Ok(())
    }

    fn serve_peer(&self, shard: &Rc<Shard>, from: NodeId, lane: Lane, stream: Stream) {
        let body_bytes_max = limits::body_bytes_max(self.shared.config.segment_bytes());
        let partial = self.peer_partials.connection();
        let served = peer_conn::serve(stream, Rc::clone(shard), from, lane, body_bytes_max, partial);
        self.classes.spawn(class_of(lane), served);
    }

    fn on_message(&self, message: MeshMessage) {
        match message {
            MeshMessage::Call { ticket, call } => {
                let shard = self.gateway.shard(call.meta.shard).expect("the mesh brings calls to the shard's owner");
                shard.deliver(Event::Call { origin: Origin::Local(ticket), call });
            }
            MeshMessage::Reply { shard, ticket, answer, relayed } => match answer.part() {
                Ok(part) => self.gateway.reply_here(shard, ticket, part, relayed),
                Err(why) => self.gateway.give_up(ticket, why),
            },
            MeshMessage::Left { shard, tickets } => {
                let shard = self.gateway.shard(shard).expect("the mesh brings news to the shard's owner");
                shard.deliver(Event::Left(&tickets));
            }
            MeshMessage::Peer { shard, from, lane, connection } => {
                let shard = self.gateway.shard(shard).expect("the mesh brings peers to the shard's owner");
                self.serve_peer(shard, from, lane, attach(connection));
            }
        }
    }

    fn on_handle(&self, asked: HandleCall) {
        let HandleCall { call, reply } = asked;
        #[cfg(test)]
        assert_ne!(call.meta.shard, super::handle::PANICS, "a task gives up");
        #[cfg(test)]
        if call.meta.shard == super::handle::HANGS {
            super::handle::IS_HANGING.store(true, Ordering::SeqCst);
            drop(super::handle::HOLDS.lock());
        }
        match self.gateway.check(&call) {
            Ok(()) => self.gateway.route(call, Waiting::Handle(reply)),
            Err(refusal) => reply.answer(Err(refusal)),
        }
    }

    /// Gives leaderships away and leaves when nobody needs this node any more, so that no client notices. All waits are bounded.
    ///
    /// While another node leads, requests go on to it, and its answers tell clients where to go. Once they are there, or had
    /// their time, new requests are refused, what was taken before gets its answer, and clients are told the end.
    async fn stop(&self) {
        self.stopping.set(true);
        for shard in &self.shards {
            shard.hand_over();
        }
        wait_for(HAND_OVER_MS_MAX, STOP_STEP_MS, || !self.shards.iter().any(|shard| shard.view().is_leader)).await;
        let mut quiet_ms = 0;
        let mut taken_count = self.gateway.taken_count();
        wait_for(LINGER_MS_MAX, STOP_STEP_MS, || {
            let is_quiet = taken_count == self.gateway.taken_count() && self.owes_no_answer();
            taken_count = self.gateway.taken_count();
            quiet_ms = if is_quiet { quiet_ms + STOP_STEP_MS } else { 0 };
            quiet_ms > QUIET_MS
        })
        .await;
        for shard in &self.shards {
            shard.close();
        }
        wait_for(LAST_ANSWERS_MS_MAX, STOP_STEP_MS, || self.owes_no_answer()).await;
        Shard::settle_and_stop(&self.shards).await;
        self.gateway.say_goodbye();
        // Answers that were queued leave while this core still runs; clients close their connections on their own.
        glommio::timer::sleep(Duration::from_millis(10 * STOP_STEP_MS)).await;
    }

    /// True if nobody waits for an answer of this node, on whatever core.
    fn owes_no_answer(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) == 0 && self.shards.iter().all(|shard| shard.owes_no_answer())
    }
}

/// Looks every `step_ms` whether something holds, until it does or `ms_max` have passed.
async fn wait_for(ms_max: u64, step_ms: u64, mut holds: impl FnMut() -> bool) {
    let mut waited_ms = 0;
    while !holds() && waited_ms < ms_max {
        glommio::timer::sleep(Duration::from_millis(step_ms)).await;
        waited_ms += step_ms;
    }
}
