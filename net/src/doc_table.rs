//! `docs/format/wire.md`, which tests hold this package against.

#[path = "../../docs/format/document.rs"]
mod document;

pub(crate) use document::{Document, values};

/// What goes over connections.
pub(crate) const WIRE_DOC: Document = Document(include_str!("../../docs/format/wire.md"));
