//! The files of the workspace, as a clone has them.

use std::fs;
use std::path::Path;

/// One text file.
pub struct TextFile {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub text: String,
}

/// The workspace.
pub struct Tree {
    /// Sources, documents, manifests and scripts.
    pub files: Vec<TextFile>,
    /// Paths of all files, of folders with a `/` at the end.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads everything but build output and hidden folders; `.ci` is no hidden folder.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self { files: Vec::new(), paths: Vec::new() };
        tree.read_folder(root, "");
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
            let Ok(name) = entry.file_name().into_string() else { panic!("unprintable name in {}", folder.display()) };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().unwrap_or_else(|error| panic!("cannot look at {path}: {error}"));
            if kind.is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".ci") {
                    self.paths.push(format!("{path}/"));
                    self.read_folder(&entry.path(), &format!("{path}/"));
                }
                continue;
            }
            self.paths.push(path.clone());
            let is_text =
                ["rs", "md", "toml", "bugs"].iter().any(|&end| name.rsplit_once('.').is_some_and(|(_, is)| is == end));
            if is_text || prefix == ".ci/" {
                let text =
                    fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
                self.files.push(TextFile { path, text });
            }
        }
    }

    /// There is a file or folder of this path.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.paths.iter().any(|known| known.trim_end_matches('/') == path)
    }
}
