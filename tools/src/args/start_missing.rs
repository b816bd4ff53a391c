//! Server flags of etcd that `start` does not have. They are refused with the reason, whatever their value is.

use clap::{Arg, ArgMatches, Command, FromArgMatches};

/// No value of its own: none of its flags is ever taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MissingStartArgs;

const TLS: &str = "not built yet: connections are not encrypted";
const USERS: &str = "not built yet: there are no users";
const DISCOVERY: &str = "not built yet: name the nodes in --initial-cluster";
const SNAPSHOTS: &str = "not built yet: there are no snapshots, the log is kept whole";
const COMPACTION: &str = "not built yet: all revisions are kept";
const GRPC: &str = "not built yet: there is no gRPC";
const HTTP: &str = "not built yet: probes and figures are served on the client port";
const BACKEND: &str = "not built yet: the state is in memory, and there is no second file";
const LOGGING: &str = "not built yet: the log goes to standard error; see --log-format and --log-level";
const TRACING: &str = "not built yet: there are no traces";

/// Each flag, and why there is none. `--discovery-srv` is refused with the client commands' options.
const MISSING: &[(&str, &str)] = &[
    ("auth-token", USERS),
    ("auth-token-ttl", USERS),
    ("auto-compaction-mode", COMPACTION),
    ("auto-compaction-retention", COMPACTION),
    ("auto-tls", TLS),
    ("backend-batch-interval", BACKEND),
    ("backend-batch-limit", BACKEND),
    ("backend-bbolt-freelist-type", BACKEND),
    ("bcrypt-cost", USERS),
    ("cert-file", TLS),
    ("cipher-suites", TLS),
    ("client-cert-allowed-hostname", TLS),
    ("client-cert-auth", TLS),
    ("client-crl-file", TLS),
    ("compaction-batch-limit", COMPACTION),
    ("compaction-sleep-interval", COMPACTION),
    ("config-file", "not built yet under this name: write --config, a file in TOML"),
    ("cors", HTTP),
    ("corrupt-check-time", "not built yet: nodes do not compare their states by themselves"),
    ("discovery", DISCOVERY),
    ("discovery-endpoints", DISCOVERY),
    ("discovery-srv-name", DISCOVERY),
    ("discovery-token", DISCOVERY),
    ("distributed-tracing-address", TRACING),
    ("enable-distributed-tracing", TRACING),
    ("enable-grpc-gateway", GRPC),
    ("enable-log-rotation", LOGGING),
    ("enable-pprof", "not built yet: there are no profiles"),
    ("force-new-cluster", "not built yet: a cluster keeps the voters that it was created with"),
    ("grpc-keepalive-interval", GRPC),
    ("grpc-keepalive-min-time", GRPC),
    ("grpc-keepalive-timeout", GRPC),
    ("host-whitelist", HTTP),
    ("initial-corrupt-check", "not built yet: nodes do not compare their states by themselves"),
    ("initial-election-tick-advance", "not built yet: a node that starts waits for its whole --election-timeout"),
    ("key-file", TLS),
    ("listen-client-http-urls", HTTP),
    ("listen-metrics-urls", HTTP),
    ("log-outputs", LOGGING),
    ("log-rotation-config-json", LOGGING),
    ("logger", LOGGING),
    ("max-concurrent-streams", "not built yet under this name: see --max-requests-per-connection"),
    ("max-learners", "not built yet: members do not change"),
    ("max-snapshots", SNAPSHOTS),
    ("max-wals", SNAPSHOTS),
    ("memory-mlock", "not built yet: memory is not locked"),
    ("metrics", HTTP),
    ("peer-auto-tls", TLS),
    ("peer-cert-allowed-cn", TLS),
    ("peer-cert-allowed-hostname", TLS),
    ("peer-cert-file", TLS),
    ("peer-client-cert-auth", TLS),
    ("peer-client-cert-file", TLS),
    ("peer-client-key-file", TLS),
    ("peer-crl-file", TLS),
    ("peer-key-file", TLS),
    ("peer-trusted-ca-file", TLS),
    ("pre-vote", "not built yet: it cannot be switched off; every election begins with pre-votes"),
    ("progress-notify-interval", "not built yet: there are no watches"),
    ("self-signed-cert-validity", TLS),
    ("snapshot-catchup-entries", SNAPSHOTS),
    ("snapshot-count", SNAPSHOTS),
    ("socket-reuse-address", "not built yet: it cannot be chosen"),
    ("socket-reuse-port", "not built yet: it cannot be chosen"),
    ("strict-reconfig-check", "not built yet: members do not change"),
    ("tls-max-version", TLS),
    ("tls-min-version", TLS),
    ("trusted-ca-file", TLS),
    ("unsafe-no-fsync", "not built yet, and it will not be: what is acknowledged is on disk"),
    ("wal-dir", "not built yet: the log lies in --data-dir; a mount or a link can put it elsewhere"),
    ("warning-apply-duration", "not built yet: see quorate_apply_latency_seconds in /metrics"),
    ("warning-unary-request-duration", "not built yet: see the histograms in /metrics"),
    ("watch-progress-notify-interval", "not built yet: there are no watches"),
];

impl FromArgMatches for MissingStartArgs {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}

impl clap::Args for MissingStartArgs {
    fn augment_args(command: Command) -> Command {
        MISSING.iter().fold(command, |command, (flag, why)| {
            let refuse = move |_: &str| -> Result<String, String> { Err((*why).to_owned()) };
            // A flag of etcd may be a switch. Without a value it is refused, too.
            let arg = Arg::new(*flag).long(flag).num_args(0..=1).default_missing_value("true");
            command.arg(arg.hide(true).value_parser(refuse))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
