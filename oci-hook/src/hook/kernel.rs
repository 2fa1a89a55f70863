// SPDX-License-Identifier: Apache-2.0
//! What the hook does in the BPF maps.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use varmor_bpf_abi::keys::{NONE, profile_key};
use varmor_bpf_abi::{Binding, Maps, binding, procfs};
use varmor_node_state::{ContainerId, ProfileName};

use super::decide::Bind;
use crate::oci::State;

/// The container could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The maps.
    #[error(transparent)]
    Maps(#[from] binding::Error),
    /// The init process.
    #[error("its init process can't be looked at: {0}")]
    Process(#[from] procfs::Error),
    /// The state has no pid.
    #[error("its OCI state names no init process")]
    NoPid,
    /// Binding it would bind the node's own processes.
    #[error(
        "it has no mount namespace of its own, so that BPF can't tell it from the node; give it one"
    )]
    HostMountNamespace,
    /// The profile.
    #[error("the BPF profile {0} is not loaded on this node; see the log of varmor-nri")]
    NoProfile(ProfileName),
}

/// Does what was decided. Also clears what an earlier container with the same mount namespace number left: numbers are
/// reused at once, and not every container's poststop hook runs.
pub fn bind(pins: &Path, state: &State, bind: &Bind) -> Result<(), BindError> {
    match bind {
        Bind::Nothing => {
            // The programs also compare the namespace's sequence number, which is never reused: what can't be cleared
            // here carries nothing over, and is no reason to refuse a container that no policy selects.
            let _ = clear(pins, state);
            Ok(())
        }
        Bind::IfPossible => {
            // The daemon binds what runs when it comes back.
            let _ = bind_to(pins, state, None, &[]);
            Ok(())
        }
        Bind::Required {
            profile, addresses, ..
        } => bind_to(pins, state, profile.as_ref(), addresses),
    }
}

/// Forgets a container; fine when it was never bound, or nothing is.
pub fn unbind(pins: &Path, id: &ContainerId) -> Result<(), binding::Error> {
    match Maps::open(pins) {
        Ok(maps) => maps.unbind(id.as_str()),
        Err(binding::Error::NotLoaded { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn clear(pins: &Path, state: &State) -> Result<(), BindError> {
    let mntns = procfs::mount_namespace(state.pid.ok_or(BindError::NoPid)?)?;
    Maps::open(pins)?.forget_namespace(mntns)?;
    Ok(())
}

fn bind_to(
    pins: &Path,
    state: &State,
    profile: Option<&ProfileName>,
    addresses: &[IpAddr],
) -> Result<(), BindError> {
    let maps = Maps::open(pins)?;
    let profile_key = match profile {
        Some(profile) => {
            let key = profile_key(profile.as_str());
            if !maps.profile_loaded(key)? {
                return Err(BindError::NoProfile(profile.clone()));
            }
            key
        }
        None => NONE,
    };
    let init_tgid = state.pid.ok_or(BindError::NoPid)?;
    let mntns = procfs::mount_namespace(init_tgid)?;
    if mntns == procfs::mount_namespace(std::process::id())? {
        return Err(BindError::HostMountNamespace);
    }
    let addresses = match (addresses, profile) {
        // Runtimes before NRI 0.10 do not tell the daemon a pod's addresses.
        ([], Some(_)) => pod_addresses(init_tgid)?,
        // No rule reads them yet, and a container without a policy is not to fail by them.
        ([], None) => pod_addresses(init_tgid).unwrap_or_default(),
        (known, _) => known.iter().map(mapped).collect(),
    };
    maps.bind(&Binding {
        container_id: state.id.as_str(),
        init_tgid,
        mntns,
        profile_key,
        addresses: &addresses,
    })?;
    Ok(())
}

/// None in the network of the runtime itself, whose addresses are the node's and no pod's.
fn pod_addresses(init: u32) -> Result<Vec<Ipv6Addr>, procfs::Error> {
    let namespace =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/net")).map(|file| file.ino());
    match (namespace(&init.to_string()), namespace("self")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(Vec::new()),
        _ => procfs::pod_addresses(init),
    }
}

fn mapped(address: &IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => *address,
    }
}
