//! Asks the kernel whether io_uring can be used, call by call, before anything else does.
//!
//! Container profiles refuse io_uring with EPERM or ENOSYS, for one of its system calls or for all three, and glommio panics
//! on some of these refusals. This makes a small ring of its own, uses each call once and says which one was refused. It
//! runs no operation and leaves nothing behind.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::limits::QUESTION_RING_ENTRIES;

/// The operations that glommio needs, with their names. Source: glommio 0.9.0, `sys/uring.rs`.
const OPERATIONS: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Statx::CODE, "STATX"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Recv::CODE, "RECV"),
];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// A system call was refused.
    #[error("the system call {call} was refused: {source}")]
    Call {
        /// Its name.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel lacks an operation.
    #[error("the kernel does not know the operation {operation}")]
    Operation {
        /// Its name without `IORING_OP_`, as in the kernel's documentation.
        operation: &'static str,
    },
}

/// Uses each of io_uring's system calls once, and asks for the operations that the executors need.
///
/// # Errors
/// The first call that was refused, or the first operation that is missing.
pub fn probe() -> Result<(), UringError> {
    let refused = |call| move |source| UringError::Call { call, source };
    let ring = IoUring::new(QUESTION_RING_ENTRIES).map_err(refused("io_uring_setup"))?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(refused("io_uring_register"))?;
    // With nothing queued this enters the kernel and returns at once.
    ring.submit().map_err(refused("io_uring_enter"))?;
    match OPERATIONS.iter().find(|(code, _)| !known.is_supported(*code)) {
        Some(&(_, operation)) => Err(UringError::Operation { operation }),
        None => Ok(()),
    }
}
