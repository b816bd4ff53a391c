//! `quorate man`: the manual pages, one for each command, made of what the command line knows of itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::cli::definition;

/// `man`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where the pages are written; it is made if it is not there
    dir: PathBuf,
}

/// Writes a page for the binary and one for each of its commands: `quorate.1`, `quorate-get.1` and so on.
///
/// # Errors
/// A page cannot be written.
pub(crate) fn run(args: &Args) -> io::Result<()> {
    fs::create_dir_all(&args.dir)?;
    write_pages(&definition::command(), "quorate", &args.dir)
}

fn write_pages(command: &Command, name: &str, dir: &Path) -> io::Result<()> {
    // clap takes names that live as long as the process; it ends once the pages are written.
    let title: &'static str = Box::leak(name.into());
    let titled = command.clone().name(title).display_name(title);
    let mut page = Vec::new();
    clap_mangen::Man::new(titled).render(&mut page)?;
    fs::write(dir.join(format!("{name}.1")), page)?;
    let shown = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    for below in shown {
        write_pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_the_options_that_it_uses() {
        let dir = tempfile::tempdir().expect("a directory");
        run(&Args { dir: dir.path().join("man1") }).expect("pages");
        let page = |name: &str| {
            let text = fs::read_to_string(dir.path().join("man1").join(format!("{name}.1"))).expect(name);
            text.replace('\\', "")
        };
        assert!(page("quorate").contains("quorate-get"), "{}", page("quorate"));
        for (name, option, is_there) in [
            ("quorate-get", "--sort-by", true),
            ("quorate-get", "--endpoints", true),
            ("quorate-start", "--initial-cluster-token", true),
            ("quorate-start", "--endpoints", false),
            ("quorate-start", "--auto-tls", false),
            ("quorate-endpoint-health", "--command-timeout", true),
            ("quorate-wal-verify", "--write-out", true),
        ] {
            assert_eq!(page(name).contains(option), is_there, "{name} {option}: {}", page(name));
        }
        assert!(!dir.path().join("man1/quorate-watch.1").exists(), "what is not built has no page");
    }
}
