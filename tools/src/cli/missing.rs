//! Commands of etcdctl that are not built yet. They are parsed, so that the refusal can say that they are missing, and what to do instead.

use std::ffi::OsString;

use clap::Subcommand;

use crate::cmd::CommandError;

/// The words behind the name of a command that is not built yet. Only the name of a subcommand among them is used.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Words {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// A command that is not built yet.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Missing {
    /// Not built yet
    #[command(hide = true)]
    Watch(Words),
    /// Not built yet
    #[command(hide = true)]
    Lease(Words),
    /// Not built yet
    #[command(hide = true)]
    Member(Words),
    /// Not built yet
    #[command(hide = true)]
    Snapshot(Words),
    /// Not built yet
    #[command(hide = true, alias = "compact")]
    Compaction(Words),
    /// Not built yet
    #[command(hide = true)]
    Defrag(Words),
    /// Not built yet
    #[command(hide = true)]
    Alarm(Words),
    /// Not built yet
    #[command(hide = true)]
    MoveLeader(Words),
    /// Not built yet
    #[command(hide = true)]
    Elect(Words),
    /// Not built yet
    #[command(hide = true)]
    Lock(Words),
    /// Not built yet
    #[command(hide = true)]
    MakeMirror(Words),
    /// Not built yet
    #[command(hide = true)]
    Auth(Words),
    /// Not built yet
    #[command(hide = true)]
    User(Words),
    /// Not built yet
    #[command(hide = true)]
    Role(Words),
    /// Not built yet
    #[command(hide = true)]
    Downgrade(Words),
    /// Not built yet
    #[command(hide = true)]
    Options(Words),
}

impl Missing {
    /// The error that names the command and says why it is missing.
    pub(crate) fn refusal(&self) -> CommandError {
        let (name, words, why) = match self {
            Self::Watch(words) => {
                ("watch", words, "nothing tells of changes; quorate get --rev reads an earlier revision")
            }
            Self::Lease(words) => ("lease", words, "there are no leases; a key stays until it is deleted"),
            Self::Member(words) => {
                ("member", words, "the members are those of --initial-cluster; quorate endpoint status shows each")
            }
            Self::Snapshot(words) => {
                ("snapshot", words, "there are no backups; quorate get '' --prefix -w json reads all keys")
            }
            Self::Compaction(words) => ("compaction", words, "all revisions are kept"),
            Self::Defrag(words) => ("defrag", words, "all revisions are kept, so that there is no room to give back"),
            Self::Alarm(words) => {
                ("alarm", words, "a node without room refuses writes, and takes them again once it has room")
            }
            Self::MoveLeader(words) => {
                ("move-leader", words, "a leader hands over by itself when its node stops or its disk is slow")
            }
            Self::Elect(words) => ("elect", words, "it needs leases and watches"),
            Self::Lock(words) => ("lock", words, "it needs leases and watches"),
            Self::MakeMirror(words) => ("make-mirror", words, "it needs watches"),
            Self::Auth(words) => {
                ("auth", words, "there are no users; let nobody reach the client port who must not use it")
            }
            Self::User(words) => ("user", words, "there are no users"),
            Self::Role(words) => ("role", words, "there are no users"),
            Self::Downgrade(words) => ("downgrade", words, "there is no older version"),
            Self::Options(words) => ("options", words, "the help of every command lists them"),
        };
        // Only names of subcommands are repeated in the error, never keys, values or passwords.
        let has_subcommands = matches!(
            self,
            Self::Lease(_)
                | Self::Member(_)
                | Self::Snapshot(_)
                | Self::Alarm(_)
                | Self::Auth(_)
                | Self::User(_)
                | Self::Role(_)
                | Self::Downgrade(_)
        );
        let subcommand = words.words.first().and_then(|word| word.to_str()).filter(|word| is_name(word));
        let what = match subcommand.filter(|_| has_subcommands) {
            Some(subcommand) => format!("{name} {subcommand}"),
            None => name.to_owned(),
        };
        CommandError::NotBuilt { what: format!("quorate {what}"), why }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}
