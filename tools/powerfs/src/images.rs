//! All files and directories of one file system, and what programs do with them.
//!
//! Calls come one after the other, as the kernel's requests do. Nothing here waits, and what a cut leaves follows from its seed.

use std::collections::BTreeMap;

use wal::random::SplitMix64;

use crate::content::Content;
use crate::limits::NAME_BYTES_MAX;
use crate::names::{Directory, Edit, Fate, Names};
use crate::store::{Inode, Refusal, Remains, Store};

/// What a file or directory is, as programs see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: Inode,
    /// It holds names, not bytes.
    pub is_directory: bool,
    /// Length. Unit: bytes; 0 for directories.
    pub bytes: u64,
    /// Permissions.
    pub mode: u16,
    /// User and group that own it.
    pub owner: (u32, u32),
    /// How many names it has.
    pub names_count: u32,
}

#[derive(Clone, Debug)]
enum Node {
    File(Content),
    Directory(Directory),
}

#[derive(Clone, Debug)]
struct Entry {
    node: Node,
    mode: u16,
    owner: (u32, u32),
    is_named: bool,
    /// How often the kernel was told of it and did not say that it forgot.
    lookups_count: u64,
}

/// The images of one file system over a store.
#[derive(Clone, Debug)]
pub struct Images<S> {
    store: S,
    entries: BTreeMap<Inode, Entry>,
    names: Names,
    next: u64,
}

impl<S: Store> Images<S> {
    /// An empty file system, whose root belongs to `owner`.
    pub fn new(store: S, owner: (u32, u32)) -> Self {
        let node = Node::Directory(Directory::new());
        let root = Entry { node, mode: 0o755, owner, is_named: true, lookups_count: 0 };
        Self { store, entries: BTreeMap::from([(Inode::ROOT, root)]), names: Names::default(), next: Inode::ROOT.0 + 1 }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What a file or directory is.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn attributes(&self, inode: Inode) -> Result<Attributes, Refusal> {
        let Entry { node, mode, owner, is_named, .. } = self.entry(inode)?;
        let (is_directory, bytes) = match node {
            Node::File(content) => (false, content.length()),
            Node::Directory(_) => (true, 0),
        };
        let names_count = u32::from(*is_named) * if is_directory { 2 } else { 1 };
        Ok(Attributes { inode, is_directory, bytes, mode: *mode, owner: *owner, names_count })
    }

    /// Finds a name, which the kernel then knows.
    ///
    /// # Errors
    /// It is not there, or `parent` is no directory.
    pub fn look_up(&mut self, parent: Inode, name: &[u8]) -> Result<Attributes, Refusal> {
        let inode = self.named(parent, name)?.ok_or(Refusal::Absent)?;
        self.remember(inode)
    }

    /// The kernel forgot `count` times that it was told of this.
    ///
    /// # Errors
    /// What it was the last to know cannot be removed from the store.
    pub fn forget(&mut self, inode: Inode, count: u64) -> Result<(), Refusal> {
        let Ok(entry) = self.entry_mut(inode) else { return Ok(()) };
        entry.lookups_count = entry.lookups_count.saturating_sub(count);
        self.drop_if_unknown(inode)
    }

    /// Creates a file, or a directory, which the kernel then knows.
    ///
    /// # Errors
    /// The name is taken or too long, or `parent` is no directory.
    pub fn create(
        &mut self,
        parent: Inode,
        name: &[u8],
        is_directory: bool,
        mode: u16,
        owner: (u32, u32),
    ) -> Result<Attributes, Refusal> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::NameTooLong);
        }
        if self.named(parent, name)?.is_some() {
            return Err(Refusal::Exists);
        }
        let inode = Inode(self.next);
        self.next += 1;
        let node = if is_directory { Node::Directory(Directory::new()) } else { Node::File(Content::new(inode)) };
        self.entries.insert(inode, Entry { node, mode, owner, is_named: true, lookups_count: 0 });
        self.edit(vec![Edit { directory: parent, name: name.to_vec(), becomes: Some(inode) }])?;
        self.remember(inode)
    }

    /// Removes a name: of a file, or with `is_directory` of an empty directory.
    ///
    /// # Errors
    /// It is not there, is of the other kind, or has names in it.
    pub fn remove(&mut self, parent: Inode, name: &[u8], is_directory: bool) -> Result<(), Refusal> {
        let inode = self.named(parent, name)?.ok_or(Refusal::Absent)?;
        self.check_replaceable(inode, is_directory)?;
        self.edit(vec![Edit { directory: parent, name: name.to_vec(), becomes: None }])?;
        self.unname(inode)
    }

    /// Moves a file or directory to another name, over what has that name unless `is_new` forbids it.
    ///
    /// # Errors
    /// It is not there, the other name is taken, or what has it cannot be replaced.
    pub fn rename(&mut self, from: (Inode, &[u8]), to: (Inode, &[u8]), is_new: bool) -> Result<(), Refusal> {
        let inode = self.named(from.0, from.1)?.ok_or(Refusal::Absent)?;
        if to.1.len() > NAME_BYTES_MAX {
            return Err(Refusal::NameTooLong);
        }
        let replaced = self.named(to.0, to.1)?;
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if is_new {
                return Err(Refusal::Exists);
            }
            self.check_replaceable(replaced, matches!(self.entry(inode)?.node, Node::Directory(_)))?;
        }
        let edit = |(directory, name): (Inode, &[u8]), becomes| Edit { directory, name: name.to_vec(), becomes };
        self.edit(vec![edit(from, None), edit(to, Some(inode))])?;
        replaced.map_or(Ok(()), |replaced| self.unname(replaced))
    }

    /// Changes permissions and owner.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn set_access(
        &mut self,
        inode: Inode,
        mode: Option<u16>,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), Refusal> {
        let entry = self.entry_mut(inode)?;
        entry.mode = mode.unwrap_or(entry.mode);
        entry.owner = (user.unwrap_or(entry.owner.0), group.unwrap_or(entry.owner.1));
        Ok(())
    }

    /// Cuts a file off, or extends it with zeros.
    ///
    /// # Errors
    /// It is no file.
    pub fn set_length(&mut self, inode: Inode, bytes: u64) -> Result<(), Refusal> {
        self.content(inode)?.0.set_length(bytes);
        Ok(())
    }

    /// Reads a file. Returns how much of `into` lies before its end.
    ///
    /// # Errors
    /// It is no file, or the store failed.
    pub fn read(&self, inode: Inode, offset: u64, into: &mut [u8]) -> Result<usize, Refusal> {
        match &self.entry(inode)?.node {
            Node::File(content) => content.read(&self.store, offset, into),
            Node::Directory(_) => Err(Refusal::IsDirectory),
        }
    }

    /// Writes to a file.
    ///
    /// # Errors
    /// It is no file, or the store failed.
    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let (content, store) = self.content(inode)?;
        content.write(store, offset, bytes)
    }

    /// Makes a file durable, but not its name.
    ///
    /// # Errors
    /// It is no file, or the store failed.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Refusal> {
        let (content, store) = self.content(inode)?;
        content.sync(store)
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// It is no directory.
    pub fn sync_names(&mut self, inode: Inode) -> Result<(), Refusal> {
        self.directory(inode)?;
        self.names.sync(inode);
        let unnamed: Vec<Inode> = self.entries.iter().filter(|(_, entry)| !entry.is_named).map(|(at, _)| *at).collect();
        unnamed.into_iter().try_for_each(|inode| self.drop_if_unknown(inode))
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    /// It is no directory.
    pub fn list(&self, inode: Inode) -> Result<Vec<(Vec<u8>, Inode, bool)>, Refusal> {
        let names = self.directory(inode)?.iter();
        Ok(names.map(|(name, inode)| (name.clone(), *inode, self.is_directory(*inode))).collect())
    }

    /// The power is gone: chance, drawn from `seed`, decides what of the unsynced stays. Programs that start now see that.
    ///
    /// # Errors
    /// The store failed.
    pub fn cut(&mut self, seed: u64) -> Result<Remains, Refusal> {
        let mut random = SplitMix64::new(seed);
        let fate = Fate::draw(&mut random);
        let mut remains = self.names.cut(fate, &mut random);
        // From the root on, what durable names lead to; all else is gone.
        let mut left = BTreeMap::new();
        let mut open = vec![Inode::ROOT];
        while let Some(inode) = open.pop() {
            let Some(mut entry) = self.entries.remove(&inode) else { continue };
            if let Node::Directory(names) = &mut entry.node {
                *names = self.names.durable(inode);
                open.extend(names.values());
            }
            left.insert(inode, Entry { is_named: true, lookups_count: 0, ..entry });
        }
        for gone in std::mem::replace(&mut self.entries, left).into_keys() {
            self.names.forget(gone);
            self.store.remove(gone)?;
        }
        for entry in self.entries.values_mut() {
            if let Node::File(content) = &mut entry.node {
                remains.add(content.cut(&mut self.store, &mut random)?);
            }
        }
        Ok(remains)
    }

    fn entry(&self, inode: Inode) -> Result<&Entry, Refusal> {
        self.entries.get(&inode).ok_or(Refusal::Absent)
    }

    fn entry_mut(&mut self, inode: Inode) -> Result<&mut Entry, Refusal> {
        self.entries.get_mut(&inode).ok_or(Refusal::Absent)
    }

    fn content(&mut self, inode: Inode) -> Result<(&mut Content, &mut S), Refusal> {
        match &mut self.entries.get_mut(&inode).ok_or(Refusal::Absent)?.node {
            Node::File(content) => Ok((content, &mut self.store)),
            Node::Directory(_) => Err(Refusal::IsDirectory),
        }
    }

    fn directory(&self, inode: Inode) -> Result<&Directory, Refusal> {
        match &self.entry(inode)?.node {
            Node::Directory(names) => Ok(names),
            Node::File(_) => Err(Refusal::NotDirectory),
        }
    }

    fn is_directory(&self, inode: Inode) -> bool {
        self.directory(inode).is_ok()
    }

    fn named(&self, parent: Inode, name: &[u8]) -> Result<Option<Inode>, Refusal> {
        Ok(self.directory(parent)?.get(name).copied())
    }

    fn remember(&mut self, inode: Inode) -> Result<Attributes, Refusal> {
        self.entry_mut(inode)?.lookups_count += 1;
        self.attributes(inode)
    }

    fn check_replaceable(&self, inode: Inode, by_directory: bool) -> Result<(), Refusal> {
        match (&self.entry(inode)?.node, by_directory) {
            (Node::File(_), true) => Err(Refusal::NotDirectory),
            (Node::Directory(_), false) => Err(Refusal::IsDirectory),
            (Node::Directory(names), true) if !names.is_empty() => Err(Refusal::NotEmpty),
            _ => Ok(()),
        }
    }

    /// Changes live names, and notes the change for the durable ones.
    fn edit(&mut self, edits: Vec<Edit>) -> Result<(), Refusal> {
        for Edit { directory, name, becomes } in &edits {
            let Node::Directory(names) = &mut self.entry_mut(*directory)?.node else {
                return Err(Refusal::NotDirectory);
            };
            match becomes {
                Some(inode) => drop(names.insert(name.clone(), *inode)),
                None => drop(names.remove(name)),
            }
        }
        self.names.change(edits);
        Ok(())
    }

    fn unname(&mut self, inode: Inode) -> Result<(), Refusal> {
        self.entry_mut(inode)?.is_named = false;
        self.drop_if_unknown(inode)
    }

    /// Removes what has no name, is not open, and cannot come back at a cut.
    fn drop_if_unknown(&mut self, inode: Inode) -> Result<(), Refusal> {
        let entry = self.entry(inode)?;
        if entry.is_named || entry.lookups_count > 0 || self.names.may_come_back(inode) {
            return Ok(());
        }
        self.entries.remove(&inode);
        self.names.forget(inode);
        self.store.remove(inode)
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
