//! `docs/format/wal.md`, which tests hold this package against, and the layouts of its structs in the form of those documented.

#[path = "../../docs/format/document.rs"]
#[expect(dead_code, reason = "other packages read more of their documents")]
mod document;

pub(crate) use document::Document;

/// The log's files.
pub(crate) const WAL_DOC: Document = Document(include_str!("../../docs/format/wal.md"));

/// Fields of a struct by name, and the bytes that each takes; in the order given, with their sizes in bytes.
macro_rules! layout_of {
    ($raw:ty, $(($field:ident, $bytes:expr)),* $(,)?) => {
        vec![$((stringify!($field).to_owned(), {
            let start = std::mem::offset_of!($raw, $field);
            start..start + $bytes
        })),*]
    };
}

pub(crate) use layout_of;
