//! How many connections the limit on open files leaves room for.
//!
//! The log comes first: a segment must always find a descriptor, whoever connects. So what a node needs for itself is counted
//! from its settings, and connections get what is left. Asks no system; `preflight` does.

use crate::config::ValidConfig;

use super::limits::{
    CONNECTIONS_MIN, CORE_FILES, GREETINGS_MAX, GREETINGS_MIN, GREETINGS_SHARE, LEAVING, LOOKUP_FILES,
    PEER_CONNECTIONS, PORTS, PROBES, PROCESS_FILES, SHARD_FILES, SHARD_SEGMENTS,
};

/// What a node is going to have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    cores: u64,
    /// Everything but greetings and clients. Unit: descriptors.
    own: u64,
    /// Client connections that the settings allow.
    connections: u64,
}

/// Connections that a node has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections of clients, over all cores.
    pub connections: usize,
    /// Connections in their handshake, for each core and port.
    pub greetings: usize,
}

impl Needs {
    /// What a node with these settings needs.
    pub fn of(config: &ValidConfig) -> Self {
        let (cores, shards) = (u64::from(config.cores()), u64::from(config.shards()));
        let listeners = (config.listen_client().len() + config.listen_peer().len()) as u64;
        let peers = (config.members().len() as u64).saturating_sub(1);
        let urls: u64 = config.members().iter().map(|member| member.peer_urls.len() as u64).sum();
        let own = PROCESS_FILES
            + PROBES as u64
            + cores * (CORE_FILES + listeners + LEAVING as u64)
            + shards * (SHARD_FILES + SHARD_SEGMENTS + peers * PEER_CONNECTIONS)
            + urls * LOOKUP_FILES;
        Self { cores, own, connections: config.limits().connections.into() }
    }

    /// What a limit on open files leaves for others.
    ///
    /// # Errors
    /// The limit is too low; says what is needed.
    pub fn room(self, open_files_limit: u64) -> Result<Room, u64> {
        let doors = self.cores * PORTS;
        let needed = self.own + doors * GREETINGS_MIN + CONNECTIONS_MIN;
        if open_files_limit < needed {
            return Err(needed);
        }
        let left = open_files_limit - self.own;
        let greetings = (left / GREETINGS_SHARE / doors).clamp(GREETINGS_MIN, GREETINGS_MAX);
        let connections = (left - doors * greetings).min(self.connections);
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Room { connections: count(connections), greetings: count(greetings) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_connections_leave_the_node_what_it_needs() {
        for (cores, own) in [(1, 100), (2, 150), (64, 5_000), (1, 1)] {
            let needs = Needs { cores, own, connections: 10_000 };
            let needed = needs.room(0).expect_err("nothing is too little");
            assert_eq!(needs.room(needed - 1), Err(needed));
            for limit in (needed..needed + 30_000).chain([1 << 20, u64::MAX]) {
                let room = needs.room(limit).expect("enough");
                let taken = room.connections + room.greetings * 2 * cores as usize;
                assert!(own + taken as u64 <= limit, "{room:?} of {limit}");
                assert!(room.connections as u64 >= CONNECTIONS_MIN && room.connections <= 10_000, "{room:?}");
                assert!(room.greetings as u64 >= GREETINGS_MIN && room.greetings as u64 <= GREETINGS_MAX, "{room:?}");
            }
        }
    }

    #[test]
    fn a_usual_limit_leaves_room_for_many() {
        let needs = Needs { cores: 1, own: 130, connections: 10_000 };
        assert_eq!(needs.room(1 << 20), Ok(Room { connections: 10_000, greetings: 256 }));
        let small = needs.room(1_024).expect("enough");
        assert!(small.connections > 600, "{small:?}");
    }
}
