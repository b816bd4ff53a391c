//! What members are called, and where they are, for people. The core knows ids alone; what it says is told with names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::config::ValidConfig;
use crate::types::NodeId;

/// Digits of an id, as it is written.
const ID_DIGITS: usize = 16;

/// What the members are called. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<BTreeMap<NodeId, Member>>);

#[derive(Debug)]
struct Member {
    name: String,
    /// Where its peers find it.
    urls: String,
}

impl Names {
    /// The members that the settings name.
    #[must_use]
    pub(super) fn of_members(config: &ValidConfig) -> Self {
        let member = |member: &crate::config::Member| {
            let urls = member.peer_urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            (member.id, Member { name: member.name.clone(), urls })
        };
        Self(Arc::new(config.members().iter().map(member).collect()))
    }

    /// A member by its name, or by its id if the settings do not name it.
    #[must_use]
    pub(super) fn of(&self, node: NodeId) -> Named<'_> {
        Named { node, name: self.0.get(&node).map(|member| &member.name) }
    }

    /// Members, as people read a list of them.
    pub(super) fn list<'a>(&'a self, nodes: &'a BTreeSet<NodeId>) -> ListOf<'a> {
        ListOf(self, nodes)
    }

    /// A text of the core, with name and URLs of each member in the place of its id.
    #[must_use]
    pub(super) fn in_words(&self, text: &str) -> String {
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(is_digit) {
            let (before, from) = rest.split_at(at);
            let (word, after) = from.split_at(from.find(|c: char| !is_digit(c)).unwrap_or(from.len()));
            assert!(!word.is_empty(), "a digit was found");
            told.push_str(before);
            let is_whole = word.len() == ID_DIGITS && !before.ends_with(|c: char| c.is_alphanumeric());
            let id = u64::from_str_radix(word, 16).ok().filter(|_| is_whole).map(NodeId::new);
            match id.and_then(|id| Some((id, self.0.get(&id)?))) {
                Some((id, Member { name, urls })) => told.extend([name, " (", &id.to_string(), ") at ", urls]),
                None => told.push_str(word),
            }
            rest = after;
        }
        told.push_str(rest);
        told
    }
}

fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | 'a'..='f')
}

/// A member, as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    node: NodeId,
    name: Option<&'a String>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{name} ({})", self.node),
            None => write!(f, "{}", self.node),
        }
    }
}

/// A list of members.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListOf<'a>(&'a Names, &'a BTreeSet<NodeId>);

impl fmt::Display for ListOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() {
            return f.write_str("no other member");
        }
        for (number, node) in self.1.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{}", self.0.of(*node))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_members_become_names_and_all_else_stays() {
        let member = Member { name: "b".to_owned(), urls: "http://10.0.0.2:2380".to_owned() };
        let names = Names(Arc::new(BTreeMap::from([(NodeId::new(0x00ab_0000_0000_00cd), member)])));
        for (text, told) in [
            ("", ""),
            ("waits: 00ab0000000000cd", "waits: b (00ab0000000000cd) at http://10.0.0.2:2380"),
            ("00ab0000000000cd, 1", "b (00ab0000000000cd) at http://10.0.0.2:2380, 1"),
            ("00ab0000000000ce", "00ab0000000000ce"),
            ("00ab0000000000cd0", "00ab0000000000cd0"),
            ("x00ab0000000000cd", "x00ab0000000000cd"),
            ("größe 12 of cafe", "größe 12 of cafe"),
        ] {
            assert_eq!(names.in_words(text), told, "{text}");
        }
    }
}
