//! Options that commands take, as they are written on the command line.
//!
//! Names and defaults are etcd's and etcdctl's wherever they mean the same.

mod duration;
pub mod kv;
mod start;
mod start_missing;

use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use engine::config::Url;

pub use duration::parse_duration;
pub(crate) use duration::parse_minutes;
pub(crate) use kv::{Arrangement, SortOrder, SortTarget};
pub use kv::{Consistency, DelArgs, DelCommandArgs, GetArgs, PutArgs, TxnArgs};
pub use start::StartArgs;

/// Options of every client command, before or after its name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of client commands")]
pub struct GlobalArgs {
    /// Client addresses of the cluster's nodes, separated by commas: host:port or http://host:port
    #[arg(
        long,
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_name = "LIST",
        default_value = "127.0.0.1:2379",
        value_parser = parse_endpoints
    )]
    pub(crate) endpoints: Vec<EndpointList>,
    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        env = "QUORATE_WRITE_OUT",
        value_name = "FORM",
        default_value = "simple",
        value_parser = form_parser()
    )]
    pub write_out: WriteOut,
    /// Print keys and values as \xNN, and ids of members and clusters in hexadecimal
    #[arg(long, global = true, env = "QUORATE_HEX", value_parser = parse_switch)]
    pub(crate) hex: bool,
    /// How long a command may take, such as 5s or 500ms
    #[arg(
        long,
        global = true,
        env = "QUORATE_COMMAND_TIMEOUT",
        value_name = "TIME",
        default_value = "5s",
        value_parser = parse_duration
    )]
    pub command_timeout: Duration,
    /// How long connecting may take [default: half of --command-timeout]
    #[arg(
        long,
        global = true,
        env = "QUORATE_DIAL_TIMEOUT",
        value_name = "TIME",
        value_parser = parse_duration
    )]
    dial_timeout: Option<Duration>,
    /// A node that owes an answer and is silent for so long is given up
    #[arg(
        long,
        global = true,
        env = "QUORATE_KEEPALIVE_TIMEOUT",
        value_name = "TIME",
        default_value = "1s",
        value_parser = parse_duration
    )]
    pub keepalive_timeout: Duration,
    #[command(flatten)]
    missing: MissingArgs,
}

impl GlobalArgs {
    /// The endpoints as the client library takes them.
    #[must_use]
    pub fn endpoint_texts(&self) -> Vec<String> {
        self.endpoints.iter().flat_map(|list| &list.0).map(Url::authority).collect()
    }

    /// How long connecting may take.
    pub(crate) fn dial_timeout(&self) -> Duration {
        self.dial_timeout.unwrap_or(self.command_timeout / 2)
    }
}

/// Reads the value of a variable that stands for a switch.
fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1, true, yes or on, or 0, false, no or off".to_owned()),
    }
}

/// The endpoints of one `--endpoints`; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointList(Vec<Url>);

/// Reads a list of endpoints. Empty items, between commas or behind the last one, are passed over.
fn parse_endpoints(text: &str) -> Result<EndpointList, String> {
    let given = text.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty());
    let parse = |endpoint: &str| Url::parse_endpoint(endpoint).map_err(|error| format!("{endpoint:?}: {error}"));
    let list = given.map(parse).collect::<Result<Vec<Url>, String>>()?;
    if list.is_empty() {
        return Err("there is no endpoint in it; write host:port or http://host:port".to_owned());
    }
    Ok(EndpointList(list))
}

/// Options of etcdctl that are not built yet. They are refused with the reason, before or after the command's name.
#[derive(Args, Clone, Debug)]
struct MissingArgs {
    #[arg(id = "missing_cacert", value_name = "FILE", long = "cacert", global = true, hide = true, value_parser = refuse_tls)]
    _cacert: Option<String>,
    #[arg(id = "missing_cert", value_name = "FILE", long = "cert", global = true, hide = true, value_parser = refuse_tls)]
    _cert: Option<String>,
    #[arg(id = "missing_key", value_name = "FILE", long = "key", global = true, hide = true, value_parser = refuse_tls)]
    _key: Option<String>,
    #[arg(id = "missing_user", value_name = "NAME", long = "user", global = true, hide = true, value_parser = refuse_users)]
    _user: Option<String>,
    #[arg(id = "missing_password", value_name = "PASSWORD", long = "password", global = true, hide = true, value_parser = refuse_users)]
    _password: Option<String>,
    #[arg(id = "missing_srv", value_name = "DOMAIN", long = "discovery-srv", global = true, hide = true, value_parser = refuse_discovery)]
    _discovery_srv: Option<String>,
}

fn refuse_tls(_: &str) -> Result<String, String> {
    Err("not built yet: connections are not encrypted".to_owned())
}

fn refuse_users(_: &str) -> Result<String, String> {
    Err("not built yet: there are no users".to_owned())
}

fn refuse_discovery(_: &str) -> Result<String, String> {
    Err("not built yet: name the nodes in --endpoints".to_owned())
}

/// Parses the name of a form. `protobuf` is known and refused.
fn form_parser() -> impl TypedValueParser<Value = WriteOut> {
    let forms = WriteOut::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(forms.chain([PossibleValue::new(PROTOBUF).hide(true)])).try_map(|name| {
        if name == PROTOBUF {
            return Err("it is not built yet; use json, which has the same fields".to_owned());
        }
        WriteOut::from_str(&name, false)
    })
}

/// Name of a form that etcdctl has and this has not.
const PROTOBUF: &str = "protobuf";

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// As etcdctl does by default: bare lines
    Simple,
    /// A table for people
    Table,
    /// JSON for programs, as etcdctl prints it
    Json,
    /// A line for each field, for shell scripts, as etcdctl prints them
    Fields,
}

impl WriteOut {
    /// True if programs read this form: answers say who gave them, and nothing else is printed.
    pub(crate) fn is_for_programs(self) -> bool {
        match self {
            Self::Json | Self::Fields => true,
            Self::Simple | Self::Table => false,
        }
    }
}
