//! Picking and sorting keys that were read: filters first, then the order, then the limit, as etcd does it.

use std::cmp::Ordering;

use client::{KeyValue, RangeResponse};

use crate::args::{Arrangement, GetArgs, SortOrder, SortTarget};

/// True if all keys have to be read before the first one can be printed.
pub(super) fn needs_all(args: &GetArgs) -> bool {
    let Arrangement { sort_by, order, min_create_rev, max_create_rev, min_mod_rev, max_mod_rev } = args.arrangement;
    let is_sorted = sort_by.is_some_and(|target| target != SortTarget::Key) || order == Some(SortOrder::Descend);
    is_sorted || [min_create_rev, max_create_rev, min_mod_rev, max_mod_rev].iter().any(|revision| *revision > 0)
}

/// True if values have to be read although they are not printed.
pub(super) fn needs_values(args: &GetArgs) -> bool {
    args.arrangement.sort_by == Some(SortTarget::Value)
}

/// Filters, sorts and cuts the keys of a whole range as the arguments say. `count` stays that of the range.
pub(super) fn arrange(range: &mut RangeResponse, args: &GetArgs) {
    let arrangement = args.arrangement;
    range.kvs.retain(|kv| is_picked(kv, &arrangement));
    let target = arrangement.sort_by.unwrap_or(SortTarget::Key);
    range.kvs.sort_by(|one, other| {
        let ordering = compare(one, other, target);
        if arrangement.order == Some(SortOrder::Descend) { ordering.reverse() } else { ordering }
    });
    if let Some(limit) = usize::try_from(args.limit).ok().filter(|&limit| limit > 0 && range.kvs.len() > limit) {
        range.kvs.truncate(limit);
        range.more = true;
    }
    if args.keys_only {
        range.kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
}

fn is_picked(kv: &KeyValue, arrangement: &Arrangement) -> bool {
    let within = |revision: u64, min: u64, max: u64| revision >= min && (max == 0 || revision <= max);
    within(kv.create_revision, arrangement.min_create_rev, arrangement.max_create_rev)
        && within(kv.mod_revision, arrangement.min_mod_rev, arrangement.max_mod_rev)
}

fn compare(one: &KeyValue, other: &KeyValue, target: SortTarget) -> Ordering {
    match target {
        SortTarget::Create => one.create_revision.cmp(&other.create_revision),
        SortTarget::Key => one.key.cmp(&other.key),
        SortTarget::Modify => one.mod_revision.cmp(&other.mod_revision),
        SortTarget::Value => one.value.cmp(&other.value),
        SortTarget::Version => one.version.cmp(&other.version),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, ClientCommand, Command};

    fn args(words: &[&str]) -> GetArgs {
        let words = ["quorate", "get", "", "--prefix"].iter().chain(words);
        match Cli::try_parse_from(words).expect("well-formed arguments").command {
            Command::Client(ClientCommand::Get(get)) => get,
            other => panic!("expected a get, got {other:?}"),
        }
    }

    /// Four keys whose order differs for every target.
    fn range() -> RangeResponse {
        let kv = |(key, create_revision, mod_revision, version, value): (&str, u64, u64, u64, &str)| KeyValue {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
            create_revision,
            mod_revision,
            version,
            lease: 0,
        };
        let kvs = [("a", 4, 9, 3, "y"), ("b", 2, 5, 2, "z"), ("c", 3, 3, 1, "x"), ("d", 6, 8, 2, "w")];
        RangeResponse { revision: 9, kvs: kvs.map(kv).to_vec(), more: false, count: 4 }
    }

    fn arranged(words: &[&str]) -> (String, bool) {
        let (args, mut range) = (args(words), range());
        assert!(needs_all(&args), "{words:?}");
        arrange(&mut range, &args);
        assert_eq!(range.count, 4);
        (range.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect(), range.more)
    }

    #[test]
    fn every_target_sorts_both_ways_in_either_case() {
        let rows = [
            (&["--sort-by", "CREATE"][..], "bcad"),
            (&["--sort-by=modify"], "cbda"),
            (&["--sort-by", "VALUE"], "dcab"),
            (&["--sort-by", "Version"], "cbda"),
            (&["--order", "DESCEND"], "dcba"),
            (&["--sort-by", "KEY", "--order", "descend"], "dcba"),
            (&["--sort-by", "CREATE", "--order", "DESCEND"], "dacb"),
            (&["--sort-by", "CREATE", "--order", "ASCEND"], "bcad"),
        ];
        for (words, expected) in rows {
            assert_eq!(arranged(words), (expected.to_owned(), false), "{words:?}");
        }
        for words in [&[][..], &["--sort-by", "key"], &["--order", "ASCEND"], &["--limit", "2"]] {
            assert!(!needs_all(&args(words)), "nodes answer in this order themselves: {words:?}");
        }
    }

    #[test]
    fn filters_come_first_and_the_limit_last() {
        assert_eq!(arranged(&["--min-mod-rev", "5"]), ("abd".to_owned(), false));
        assert_eq!(arranged(&["--max-mod-rev=5", "--min-create-rev=3"]), ("c".to_owned(), false));
        assert_eq!(arranged(&["--max-create-rev", "4", "--limit", "2"]), ("ab".to_owned(), true));
        assert_eq!(arranged(&["--sort-by", "MODIFY", "--order", "DESCEND", "--limit", "1"]), ("a".to_owned(), true));
        assert_eq!(arranged(&["--sort-by", "VALUE", "--limit", "9"]), ("dcab".to_owned(), false));
    }

    #[test]
    fn values_are_read_to_sort_by_and_not_printed() {
        let args = args(&["--keys-only", "--sort-by", "VALUE"]);
        assert!(needs_values(&args));
        let mut range = range();
        arrange(&mut range, &args);
        assert!(range.kvs.iter().all(|kv| kv.value.is_empty()));
        assert_eq!(range.kvs[0].key, b"d");
    }
}
