//! The documents of `docs/format` that tests hold this package against.

#[path = "../../docs/format/document.rs"]
#[expect(dead_code, reason = "other packages read more of their documents")]
mod document;

pub(crate) use document::{Document, numbers, values};

/// Commands and answers.
pub(crate) const COMMAND_DOC: Document = Document(include_str!("../../docs/format/command.md"));

/// What an entry says of the members.
pub(crate) const MEMBERS_DOC: Document = Document(include_str!("../../docs/format/members.md"));

/// What a state is written out as.
pub(crate) const STATE_DOC: Document = Document(include_str!("../../docs/format/state.md"));

/// What goes over connections.
pub(crate) const WIRE_DOC: Document = Document(include_str!("../../docs/format/wire.md"));
