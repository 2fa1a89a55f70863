// SPDX-License-Identifier: Apache-2.0
//! What /proc tells about a container's init: its mount namespace and the addresses of its pod.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Why /proc did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read: the process is gone, or the caller isn't root.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A namespace link doesn't read `kind:[number]`.
    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// Inode number of a process's mount namespace. `pid` is of the caller's pid namespace and mount of /proc.
pub fn mount_namespace(pid: u32) -> Result<u32, Error> {
    namespace(pid, "mnt")
}

/// Addresses of the pod whose network namespace the process is in, IPv4 mapped into IPv6: neither loopback nor link
/// local. Empty when it is in the network namespace of the caller's pid 1, the host's: those are no pod's own.
pub fn pod_addresses(pid: u32) -> Result<Vec<Ipv6Addr>, Error> {
    addresses_outside(pid, namespace(1, "net")?)
}

/// Addresses of the process's network namespace unless it is `host`.
fn addresses_outside(pid: u32, host: u32) -> Result<Vec<Ipv6Addr>, Error> {
    if namespace(pid, "net")? == host {
        return Ok(Vec::new());
    }
    let mut addresses = BTreeSet::new();
    addresses.extend(ipv4_of_fib_trie(
        &read(pid, "net/fib_trie")?.unwrap_or_default(),
    ));
    // The file is missing where IPv6 is off.
    addresses.extend(ipv6_of_if_inet6(
        &read(pid, "net/if_inet6")?.unwrap_or_default(),
    ));
    Ok(addresses.into_iter().collect())
}

fn namespace(pid: u32, kind: &'static str) -> Result<u32, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
    let link = match std::fs::read_link(&path) {
        Ok(link) => link.to_string_lossy().into_owned(),
        Err(source) => return Err(Error::Read { path, source }),
    };
    let number = link
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix(":[")?.strip_suffix(']')?.parse().ok());
    number.ok_or(Error::Format {
        path,
        expected: "a link to kind:[number]",
        found: link,
    })
}

/// The file's text; `None` when there is no such file.
fn read(pid: u32, file: &str) -> Result<Option<String>, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// Local addresses: a line `|-- ADDRESS` with the line `/32 host LOCAL` below it. The table lists each twice.
fn ipv4_of_fib_trie(text: &str) -> BTreeSet<Ipv6Addr> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !address.is_loopback()
            && !address.is_link_local()
        {
            found.insert(address.to_ipv6_mapped());
        }
    }
    found
}

/// Lines of 32 hexadecimal digits, interface number, prefix length, scope, flags and interface name.
fn ipv6_of_if_inet6(text: &str) -> BTreeSet<Ipv6Addr> {
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from)
        .filter(|address| {
            !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_pods_addresses_and_nothing_else() {
        let fib = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.88.0.0/24 2 0 2\n        \
                   |-- 10.88.0.0\n           /24 link UNICAST\n        |-- 10.88.0.7\n           /32 host LOCAL\n        \
                   |-- 10.88.0.255\n           /32 link BROADCAST\n     +-- 127.0.0.0/8 2 0 2\n        |-- 127.0.0.0\n           \
                   /8 host LOCAL\n        |-- 127.0.0.1\n           /32 host LOCAL\n     |-- 169.254.3.4\n        /32 host LOCAL\n";
        let local = format!("{fib}Local:\n{fib}");
        let expected: Vec<Ipv6Addr> = vec!["::ffff:10.88.0.7".parse().unwrap()];
        assert_eq!(
            ipv4_of_fib_trie(&local).into_iter().collect::<Vec<_>>(),
            expected
        );

        let inet6 = "fe800000000000000042acfffe110002 02 40 20 80     eth0\n\
                     fd000000000000000000000000000007 02 40 00 80     eth0\n\
                     00000000000000000000000000000001 01 80 10 80       lo\n";
        let expected: Vec<Ipv6Addr> = vec!["fd00::7".parse().unwrap()];
        assert_eq!(
            ipv6_of_if_inet6(inet6).into_iter().collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_process_in_the_hosts_network_has_no_pod_addresses() {
        let pid = std::process::id();
        let own = namespace(pid, "net").unwrap();
        assert_eq!(addresses_outside(pid, own).unwrap(), Vec::<Ipv6Addr>::new());
        let own = addresses_outside(pid, own + 1).unwrap();
        assert!(
            own.iter()
                .all(|address| !address.is_loopback() && !address.is_unicast_link_local()),
            "{own:?}"
        );
        assert!(mount_namespace(pid).unwrap() > 0);
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        let error = mount_namespace(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/ns/mnt"), "{error}");
    }
}
