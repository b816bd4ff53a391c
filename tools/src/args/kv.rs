//! Arguments of `put`, `get`, `del` and `txn`. Lines of a transaction are parsed with the same definitions.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum};

/// How current a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Linearizable: sees every write that was acknowledged before it
    #[value(name = "l", alias = "linearizable")]
    Linearizable,
    /// Serializable: what the asked node has, possibly old
    #[value(name = "s", alias = "serializable")]
    Serializable,
}

/// `put`.
#[derive(Args, Clone, Debug)]
pub struct PutArgs {
    /// The key
    pub key: OsString,
    /// The value; without it, or with -, it is read from standard input, which must not be empty
    pub value: Option<OsString>,
    /// Print the key-value pair before it was changed
    #[arg(long)]
    pub prev_kv: bool,
    /// Id of the lease to attach, in hexadecimal; leases are not built yet, so only 0 = none is taken
    #[arg(long, value_name = "ID", default_value = "0", value_parser = parse_no_lease)]
    pub lease: u64,
    /// Write the value that the key has once more; the key must be there
    #[arg(long, conflicts_with = "value")]
    pub(crate) ignore_value: bool,
    /// Not built yet: keep the key's lease
    #[arg(long, hide = true)]
    pub(crate) ignore_lease: bool,
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortTarget {
    /// The revision that created the key
    #[value(name = "CREATE")]
    Create,
    /// The key, in byte order
    #[value(name = "KEY")]
    Key,
    /// The revision that last changed it
    #[value(name = "MODIFY")]
    Modify,
    /// The value, in byte order
    #[value(name = "VALUE")]
    Value,
    /// How often it was written since it was created
    #[value(name = "VERSION")]
    Version,
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortOrder {
    /// The smallest first
    #[value(name = "ASCEND")]
    Ascend,
    /// The largest first
    #[value(name = "DESCEND")]
    Descend,
}

/// How keys are picked and sorted once they are read.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrangement {
    /// What keys are sorted by [default: KEY]
    #[arg(long, value_enum, ignore_case = true, value_name = "TARGET")]
    pub(crate) sort_by: Option<SortTarget>,
    /// In which direction they are sorted [default: ASCEND]
    #[arg(long, value_enum, ignore_case = true, value_name = "ORDER")]
    pub(crate) order: Option<SortOrder>,
    /// Only keys that were created at this revision or later; 0 = all
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) min_create_rev: u64,
    /// Only keys that were created at this revision or before; 0 = all
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) max_create_rev: u64,
    /// Only keys that were last changed at this revision or later; 0 = all
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) min_mod_rev: u64,
    /// Only keys that were last changed at this revision or before; 0 = all
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) max_mod_rev: u64,
}

/// `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// The keys to read
    #[command(flatten)]
    pub span: KeySpan,
    /// Most keys to return; 0 = all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Read as of this revision; 0 = now
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub rev: u64,
    #[command(flatten)]
    pub(crate) arrangement: Arrangement,
    /// Return keys without their values
    #[arg(long)]
    pub keys_only: bool,
    /// Return only the number of keys
    #[arg(long, conflicts_with_all = ["keys_only", "print_value_only"])]
    pub count_only: bool,
    /// Print values without their keys
    #[arg(long, conflicts_with = "keys_only")]
    pub print_value_only: bool,
    /// How current the answer must be
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "l")]
    pub consistency: Consistency,
}

/// `del`.
#[derive(Args, Clone, Debug)]
pub struct DelArgs {
    /// The keys to delete
    #[command(flatten)]
    pub span: KeySpan,
    /// Print the deleted key-value pairs
    #[arg(long)]
    pub prev_kv: bool,
}

/// `del` as a command of its own.
#[derive(Args, Clone, Debug)]
pub struct DelCommandArgs {
    /// What it deletes
    #[command(flatten)]
    pub del: DelArgs,
    /// Delete in parts, one after the other and not at once: for more keys than one command may visit
    #[arg(long, conflicts_with = "prev_kv")]
    pub in_parts: bool,
}

/// `txn`.
#[derive(Args, Clone, Debug)]
pub struct TxnArgs {
    /// Say what is expected next, and run it once the third part has ended with a blank line
    #[arg(short, long)]
    pub interactive: bool,
}

/// One key, or the keys of a range.
#[derive(Args, Clone, Debug)]
pub struct KeySpan {
    /// The key, or the first of the range
    pub key: OsString,
    /// End of the range; itself not in it
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// All keys from KEY on, in byte order
    #[arg(long)]
    pub from_key: bool,
}

impl KeySpan {
    /// Key and range end of the request, as etcd encodes them: an empty end is the key alone, a zero byte is no end.
    #[must_use]
    pub fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key.as_bytes().to_vec();
        if self.prefix {
            if key.is_empty() {
                return (vec![0], vec![0]);
            }
            let end = prefix_end(&key);
            return (key, end);
        }
        if self.from_key {
            return (if key.is_empty() { vec![0] } else { key }, vec![0]);
        }
        (key, self.range_end.as_ref().map(|end| end.as_bytes().to_vec()).unwrap_or_default())
    }
}

/// The first key after all keys with this prefix; a zero byte (no end) if there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Until leases exist only their absence can be named: a key would never expire.
fn parse_no_lease(text: &str) -> Result<u64, String> {
    match parse_lease(text)? {
        0 => Ok(0),
        lease => Err(format!("leases are not built yet, so the key would never expire; leave lease {lease:x} out")),
    }
}

/// Lease ids are printed and read in hexadecimal, as by etcdctl.
pub fn parse_lease(text: &str) -> Result<u64, String> {
    let parsed = u64::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
    parsed.ok_or_else(|| format!("{text:?} is no lease id; it is a hexadecimal number"))
}
