//! Settings of a node from flags, variables, a file and defaults, in this order of precedence.

use std::path::{Path, PathBuf};
use std::{fs, io};

use engine::config::{Config, ConfigError};

use crate::args::StartArgs;

/// Why no settings could be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("--config: cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML, or has unknown keys or values of the wrong kind. The message has line and column.
    #[error("--config: {path}: {source}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A setting is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Merges what was given. The result is not validated yet.
///
/// # Errors
/// The file cannot be read or parsed, or a flag's list is malformed.
pub fn merge(args: StartArgs) -> Result<Config, SettingsError> {
    let mut config = match &args.config {
        Some(path) => read_file(path)?,
        None => Config::default(),
    };
    args.overlay(&mut config)?;
    Ok(config)
}

fn read_file(path: &Path) -> Result<Config, SettingsError> {
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| SettingsError::Toml { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command as Given};

    /// Variables are process-wide, so each case runs this test binary again as a child with variables of its own.
    const CHILD: &str = "SETTINGS_TEST_ARGS";

    fn config_of(words: &[&str]) -> Result<Config, SettingsError> {
        let words = ["quorate", "start"].iter().chain(words);
        match Cli::try_parse_from(words).expect("well-formed arguments").command {
            Given::Start(start) => merge(*start),
            other => panic!("expected a start, got {other:?}"),
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("quorate.toml");
        fs::write(&path, text).expect("written");
        (directory, path.to_str().expect("a printable path").to_owned())
    }

    #[test]
    fn child_prints_its_settings() {
        let Ok(words) = std::env::var(CHILD) else { return };
        let words: Vec<&str> = words.split_whitespace().collect();
        let config = config_of(&words).expect("settings");
        println!("result: {} {} {:?}", config.name, config.cores, config.listen_peer_urls);
    }

    fn settings_of_child(words: &str, variables: &[(&str, &str)]) -> String {
        let mut command = Command::new(std::env::current_exe().expect("this test binary"));
        command.args(["--exact", "--nocapture", "settings::tests::child_prints_its_settings"]);
        command.env(CHILD, words).envs(variables.iter().copied());
        let output = command.output().expect("the child runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let (_, after) = text.split_once("result: ").unwrap_or_else(|| panic!("no result in {text}"));
        after.lines().next().expect("a line").to_owned()
    }

    #[test]
    fn a_flag_wins_over_a_variable_over_a_file_over_the_default() {
        let (_directory, path) = file("name = \"file\"\ncores = 2\n");
        let with_file = format!("--config {path}");
        let with_flag = format!("--config {path} --name flag");
        let variable = [("QUORATE_NAME", "variable")];
        let urls = r#"["http://localhost:2380"]"#;
        assert_eq!(settings_of_child("", &[]), format!("default 1 {urls}"));
        assert_eq!(settings_of_child(&with_file, &[]), format!("file 2 {urls}"));
        assert_eq!(settings_of_child("", &[("QUORATE_CONFIG", path.as_str())]), format!("file 2 {urls}"));
        assert_eq!(settings_of_child(&with_file, &variable), format!("variable 2 {urls}"));
        assert_eq!(settings_of_child(&with_flag, &variable), format!("flag 2 {urls}"));
        assert_eq!(
            settings_of_child("", &[("QUORATE_LISTEN_PEER_URLS", "http://a:1, http://b:2")]),
            r#"default 1 ["http://a:1", "http://b:2"]"#
        );
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let missing = config_of(&["--config", "/no/such/file"]).expect_err("missing").to_string();
        assert!(missing.starts_with("--config: cannot read /no/such/file: "), "{missing}");
        for (text, expected) in
            [("cores = \"two\"", "line 1"), ("\nkores = 2", "unknown field `kores`"), ("=", "line 1")]
        {
            let (_directory, path) = file(text);
            let error = config_of(&["--config", &path]).expect_err(text).to_string();
            assert!(error.contains(&path) && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn words_are_checked_while_flags_are_read() {
        for words in [["start", "--wal-io", "tape"], ["start", "--log-level", "loud"], ["start", "--cores", "-1"]] {
            assert!(Cli::try_parse_from(["quorate"].iter().chain(&words)).is_err(), "{words:?}");
        }
        assert!(matches!(config_of(&["--initial-cluster", "a"]), Err(SettingsError::Config(_))));
        assert!(config_of(&["--pin-cores"]).expect("settings").pin_cores);
        assert!(!config_of(&["--pin-cores=false"]).expect("settings").pin_cores);
    }
}
