//! The first words on a connection: who calls, whom, and whether they belong together.
//!
//! The caller sends eight magic bytes and a `Hello` frame, the other side answers with a `Welcome` frame. The magic bytes
//! differ from every HTTP method, so one port can serve both. Layout: `docs/format/wire.md`. No I/O here.

use crate::frame::{Frame, FrameKind, encode_frame};
use crate::limits::{HANDSHAKE_BODY_BYTES_MAX, HANDSHAKE_TEXT_BYTES_MAX};
use codec::{DecodeError, Reader, put_text};

/// First bytes of every native connection.
pub const MAGIC: [u8; 8] = *b"QUORATE\n";

/// Version of the protocol spoken here: frames, handshake, messages.
pub const PROTOCOL_VERSION: u16 = 1;

const _: () = assert!(
    40 + 3 * (2 + HANDSHAKE_TEXT_BYTES_MAX as usize) <= HANDSHAKE_BODY_BYTES_MAX,
    "the longest handshake that is written must be one that is read"
);

/// Frame kind of a `Hello`.
pub const KIND_HELLO: FrameKind = FrameKind::new(1);

/// Frame kind of a `Welcome`.
pub const KIND_WELCOME: FrameKind = FrameKind::new(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRole {
    /// A client's requests and their answers.
    Client,
    /// A peer's urgent messages of one shard; nothing is answered on it.
    PeerControl,
    /// A peer's entries of one shard; nothing is answered on it.
    PeerBulk,
    /// Requests and answers of clients that a peer passes on, of one shard; nothing is answered on it.
    PeerRelay,
}

impl HelloRole {
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::PeerControl => 2,
            Self::PeerBulk => 3,
            Self::PeerRelay => 4,
        }
    }

    fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        match raw {
            1 => Ok(Self::Client),
            2 => Ok(Self::PeerControl),
            3 => Ok(Self::PeerBulk),
            4 => Ok(Self::PeerRelay),
            got => Err(DecodeError::Unknown { what: "the role in the handshake", got: got.into() }),
        }
    }
}

/// What the caller says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version that the caller speaks.
    pub version: u16,
    /// What the connection is for.
    pub role: HelloRole,
    /// Shards of the caller's cluster; 0 from a client.
    pub shard_count: u32,
    /// Shard that a peer's connection belongs to; 0 from a client.
    pub shard: u32,
    /// From a peer: that it knows the cluster id (`proof`). From a client: the public cluster id, or 0 = any.
    pub cluster: u64,
    /// The caller; 0 from a client.
    pub from: u64,
    /// Whom the caller wants to reach; 0 = whoever answers, from a client.
    pub to: u64,
    /// What a peer drew for this connection; 0 from a client.
    pub nonce: u64,
    /// The caller's name, for logs.
    pub name: String,
}

/// How a handshake ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is open.
    Accepted,
    /// The other side speaks another version of the protocol.
    Version,
    /// The caller belongs to another cluster.
    Cluster,
    /// The caller wanted another node.
    Node,
    /// The clusters differ in their shard count, or the shard does not exist.
    Shards,
    /// The caller is not a member of the cluster.
    Member,
    /// The connection limit is reached.
    Busy,
    /// The node is shutting down.
    Stopping,
}

impl Verdict {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Version => 1,
            Self::Cluster => 2,
            Self::Node => 3,
            Self::Shards => 4,
            Self::Member => 5,
            Self::Busy => 6,
            Self::Stopping => 7,
        }
    }

    fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        Ok(match raw {
            0 => Self::Accepted,
            1 => Self::Version,
            2 => Self::Cluster,
            3 => Self::Node,
            4 => Self::Shards,
            5 => Self::Member,
            6 => Self::Busy,
            7 => Self::Stopping,
            got => return Err(DecodeError::Unknown { what: "the verdict of the handshake", got: got.into() }),
        })
    }
}

/// What the called side says of itself, and whether it takes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Version that it speaks.
    pub version: u16,
    /// Whether the connection is open.
    pub verdict: Verdict,
    /// Shards of its cluster; 0 to a stranger.
    pub shard_count: u32,
    /// To a peer: that it knows the cluster id (`proof`). To a client: the public cluster id. 0 to a stranger.
    pub cluster: u64,
    /// It, to a peer; 0 to a client and to a stranger.
    pub node_id: u64,
    /// What it takes from a client; all zero to a peer.
    pub limits: ClientLimits,
    /// Its name, to a peer; empty to a client and to a stranger.
    pub name: String,
    /// Where clients reach it, to a peer that it accepts: the peer tells its clients. Empty to everybody else.
    ///
    /// It stands here and not in the `Hello`: a peer calls an address of its configuration, while anybody can call a peer.
    pub client_url: String,
    /// With a refusal: what was wrong, what was expected.
    pub message: String,
}

impl Hello {
    /// What a client says to whatever node of whatever cluster answers.
    #[must_use]
    pub const fn of_client() -> Self {
        Self::of_version(PROTOCOL_VERSION)
    }

    /// Appends the magic bytes and the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        let mut meta = Vec::with_capacity(64);
        meta.extend_from_slice(&self.version.to_le_bytes());
        meta.extend_from_slice(&[self.role.to_wire(), 0]);
        meta.extend_from_slice(&self.shard_count.to_le_bytes());
        meta.extend_from_slice(&self.cluster.to_le_bytes());
        meta.extend_from_slice(&self.from.to_le_bytes());
        meta.extend_from_slice(&self.to.to_le_bytes());
        meta.extend_from_slice(&self.nonce.to_le_bytes());
        put_text(&mut meta, &self.name, HANDSHAKE_TEXT_BYTES_MAX);
        encode_frame(out, KIND_HELLO, 0, self.shard, 0, &meta);
    }

    /// Reads a `Hello` out of its frame. Of another version only the version is looked at: the rest is a client's without
    /// a name, and who gets it refuses it for its version.
    ///
    /// # Errors
    /// The frame is no `Hello`, or does not follow the format.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        expect_kind(frame, KIND_HELLO)?;
        let mut reader = Reader::new(frame.meta);
        let version = reader.u16("the version in the handshake")?;
        if version != PROTOCOL_VERSION {
            return Ok(Self::of_version(version));
        }
        expect_plain(frame)?;
        let role = HelloRole::from_wire(reader.u8("the role in the handshake")?)?;
        expect_zero(reader.u8("a reserved byte of the handshake")?.into())?;
        let hello = Self {
            version,
            role,
            shard_count: reader.u32("the shard count in the handshake")?,
            shard: frame.shard,
            cluster: reader.u64("the cluster in the handshake")?,
            from: reader.u64("the caller in the handshake")?,
            to: reader.u64("the node called in the handshake")?,
            nonce: reader.u64("the nonce in the handshake")?,
            name: reader.text("the name in the handshake", HANDSHAKE_TEXT_BYTES_MAX.into())?.to_owned(),
        };
        reader.finish("the handshake")?;
        Ok(hello)
    }

    const fn of_version(version: u16) -> Self {
        Self {
            version,
            role: HelloRole::Client,
            shard_count: 0,
            shard: 0,
            cluster: 0,
            from: 0,
            to: 0,
            nonce: 0,
            name: String::new(),
        }
    }
}

/// What a node takes from one client connection, told at the handshake so that a client waits instead of being refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests that may wait for their answer; 0 = not told.
    pub requests: u32,
    /// Largest payload of a request; 0 = not told. Unit: bytes.
    pub request_bytes: u32,
    /// Payloads of requests that may wait for their answer, together; 0 = not told. Unit: bytes.
    pub queued_bytes: u64,
}

impl Welcome {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut meta = Vec::with_capacity(64);
        meta.extend_from_slice(&self.version.to_le_bytes());
        meta.extend_from_slice(&[self.verdict.to_wire(), 0]);
        meta.extend_from_slice(&self.shard_count.to_le_bytes());
        meta.extend_from_slice(&self.cluster.to_le_bytes());
        meta.extend_from_slice(&self.node_id.to_le_bytes());
        meta.extend_from_slice(&self.limits.requests.to_le_bytes());
        meta.extend_from_slice(&self.limits.request_bytes.to_le_bytes());
        meta.extend_from_slice(&self.limits.queued_bytes.to_le_bytes());
        put_text(&mut meta, &self.name, HANDSHAKE_TEXT_BYTES_MAX);
        put_text(&mut meta, &self.client_url, HANDSHAKE_TEXT_BYTES_MAX);
        put_text(&mut meta, &self.message, HANDSHAKE_TEXT_BYTES_MAX);
        encode_frame(out, KIND_WELCOME, 0, 0, 0, &meta);
    }

    /// Reads a `Welcome` out of its frame. Of another version only the version is looked at: it is a refusal for it.
    ///
    /// # Errors
    /// The frame is no `Welcome`, or does not follow the format.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        expect_kind(frame, KIND_WELCOME)?;
        let mut reader = Reader::new(frame.meta);
        let version = reader.u16("the version in the welcome")?;
        if version != PROTOCOL_VERSION {
            return Ok(Self::of_version(version));
        }
        expect_plain(frame)?;
        expect_zero(frame.shard.into())?;
        let verdict = Verdict::from_wire(reader.u8("the verdict of the handshake")?)?;
        expect_zero(reader.u8("a reserved byte of the welcome")?.into())?;
        let welcome = Self {
            version,
            verdict,
            shard_count: reader.u32("the shard count in the welcome")?,
            cluster: reader.u64("the cluster in the welcome")?,
            node_id: reader.u64("the node id in the welcome")?,
            limits: ClientLimits {
                requests: reader.u32("the limit of requests in the welcome")?,
                request_bytes: reader.u32("the limit of a request's bytes in the welcome")?,
                queued_bytes: reader.u64("the limit of queued bytes in the welcome")?,
            },
            name: reader.text("the name in the welcome", HANDSHAKE_TEXT_BYTES_MAX.into())?.to_owned(),
            client_url: reader.text("the client URL in the welcome", HANDSHAKE_TEXT_BYTES_MAX.into())?.to_owned(),
            message: reader.text("the message in the welcome", HANDSHAKE_TEXT_BYTES_MAX.into())?.to_owned(),
        };
        reader.finish("the welcome")?;
        Ok(welcome)
    }

    fn of_version(version: u16) -> Self {
        let message = format!("the node speaks protocol {version}, expected {PROTOCOL_VERSION}");
        Self { version, ..Self::to_stranger(Verdict::Version, message) }
    }

    /// What is said to somebody who has not named the right cluster: it names neither cluster nor node.
    #[must_use]
    pub const fn to_stranger(verdict: Verdict, message: String) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            verdict,
            shard_count: 0,
            cluster: 0,
            node_id: 0,
            limits: ClientLimits { requests: 0, request_bytes: 0, queued_bytes: 0 },
            name: String::new(),
            client_url: String::new(),
            message,
        }
    }
}

fn expect_kind(frame: &Frame<'_>, kind: FrameKind) -> Result<(), DecodeError> {
    if frame.kind == kind {
        return Ok(());
    }
    Err(DecodeError::Unknown { what: "the kind of a handshake frame", got: frame.kind.get().into() })
}

/// A handshake frame has no flags, no number, and nothing after its metadata.
fn expect_plain(frame: &Frame<'_>) -> Result<(), DecodeError> {
    expect_zero(frame.flags.into())?;
    expect_zero(frame.id)?;
    if frame.rest.is_empty() {
        return Ok(());
    }
    Err(DecodeError::Trailing { what: "the handshake", got: frame.rest.len() })
}

fn expect_zero(got: u64) -> Result<(), DecodeError> {
    if got == 0 { Ok(()) } else { Err(DecodeError::Unknown { what: "a reserved byte of the handshake", got }) }
}

/// What the first bytes of a connection to the client port announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Quorate's own.
    Native,
    /// HTTP/1.
    Http,
    /// Neither.
    Unknown,
    /// Too few bytes to tell.
    NeedMore,
}

/// Tells the protocol from the first bytes of a connection.
#[must_use]
pub fn sniff(first: &[u8]) -> Protocol {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];
    let candidates = METHODS.into_iter().map(|method| (method, Protocol::Http));
    for (start, protocol) in candidates.chain([(MAGIC.as_slice(), Protocol::Native)]) {
        let seen = first.len().min(start.len());
        if first.get(..seen) == start.get(..seen) {
            return if seen == start.len() { protocol } else { Protocol::NeedMore };
        }
    }
    Protocol::Unknown
}
