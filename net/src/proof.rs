//! How the two ends of a peer's connection show that they know the id of their cluster, without saying it.
//!
//! The caller draws a number and sends a digest of the cluster id, that number and whatever else its `Hello` names; the other side
//! answers with another digest of the same. So whoever listens at the address of a member that is down learns no id there, and
//! cannot answer in the member's place. Whoever can read between two nodes may repeat what a caller said: only TLS ends that.
//! No I/O and no randomness here.

use sha2::{Digest, Sha256};

use crate::handshake::Hello;

/// What the digests of a caller begin with.
const CALLER: &[u8; 14] = b"quorate caller";

/// What the digests of the called side begin with: nobody can answer a caller with its own words.
const CALLED: &[u8; 14] = b"quorate called";

impl Hello {
    /// Makes this the `Hello` of a node of the cluster with this id. `nonce` is drawn for each connection.
    pub fn prove(&mut self, cluster_id: u64, nonce: u64) {
        self.nonce = nonce;
        self.cluster = self.digest(CALLER, cluster_id);
    }

    /// What a node of the cluster with this id puts into the `cluster` of its answer; `None` if the caller does not know the id.
    #[must_use]
    pub fn answer(&self, cluster_id: u64) -> Option<u64> {
        (self.cluster == self.digest(CALLER, cluster_id)).then(|| self.digest(CALLED, cluster_id))
    }

    /// The first 64 bits of a SHA-256. All fields have fixed lengths, so that no two lists of them run together.
    fn digest(&self, domain: &[u8; 14], cluster_id: u64) -> u64 {
        let Self { version: _, role, shard_count, shard, cluster: _, from, to, nonce, name: _ } = self;
        let mut hash = Sha256::new();
        hash.update(domain);
        hash.update([role.to_wire()]);
        for number in [shard_count, shard] {
            hash.update(number.to_le_bytes());
        }
        for number in [&cluster_id, from, to, nonce] {
            hash.update(number.to_le_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HelloRole;
    use crate::samples;

    #[test]
    fn whoever_knows_the_id_proves_it_and_nobody_else() {
        let hello = samples::peer_hello();
        assert_eq!(hello.answer(samples::CLUSTER_ID + 1), None);
        let answer = hello.answer(samples::CLUSTER_ID);
        assert!(answer.is_some());
        assert_ne!(answer, Some(hello.cluster), "who repeats what it heard answers nothing");
        let mut later = hello.clone();
        later.prove(samples::CLUSTER_ID, hello.nonce + 1);
        assert_ne!(later.cluster, hello.cluster);
        let later = later.answer(samples::CLUSTER_ID);
        assert!(later.is_some() && later != answer, "an answer is good for one connection");
    }

    #[test]
    fn a_proof_is_good_for_what_it_was_made_for() {
        let hello = samples::peer_hello();
        for other in [
            Hello { role: HelloRole::PeerBulk, ..hello.clone() },
            Hello { shard: hello.shard + 1, ..hello.clone() },
            Hello { shard_count: hello.shard_count + 1, ..hello.clone() },
            Hello { from: hello.from + 1, ..hello.clone() },
            Hello { to: hello.to + 1, ..hello.clone() },
            Hello { nonce: hello.nonce + 1, ..hello.clone() },
        ] {
            assert_eq!(other.answer(samples::CLUSTER_ID), None, "{other:?}");
        }
    }
}
