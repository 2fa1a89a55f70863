// SPDX-License-Identifier: Apache-2.0
//! Names of containers and profiles in the maps: hashes, so that every part finds the same name without asking another.

use sha2::{Digest, Sha256};

/// Stands for no container and no profile; never the key of one.
pub const NONE: u64 = 0;

/// Key of a container in `containers`, `states` and `namespaces`, from its id as the runtime spells it.
pub fn container_key(id: &str) -> u64 {
    key(id)
}

/// Key of a profile in `profiles`, from its name (`varmor-<ns>-<name>` or `varmor-cluster-<varmorNs>-<name>`).
pub fn profile_key(name: &str) -> u64 {
    key(name)
}

/// Key of the domain of an executable, from its path: that of a profile of this name, and never all ones, which stands
/// for a failure there.
pub fn domain_key(target: &str) -> u64 {
    key(target).min(u64::MAX - 1)
}

/// The first 8 bytes, big endian, of the name's SHA-256; 1 where that is 0.
fn key(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_head_of_the_sha256_of_the_name() {
        // printf demo | sha256sum
        assert_eq!(container_key("demo"), 0x2a97_516c_354b_6884);
        assert_eq!(profile_key("demo"), container_key("demo"));
        assert_ne!(container_key("demo"), container_key("demo2"));
        assert_eq!(domain_key("/bin/sh"), profile_key("/bin/sh"));
    }
}
