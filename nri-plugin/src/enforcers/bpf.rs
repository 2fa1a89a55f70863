// SPDX-License-Identifier: Apache-2.0
//! BPF: the pinned programs and maps of this kernel.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use varmor_bpf_abi::layout::CONTAINER_ACTIVE;
use varmor_bpf_abi::{Binding as Entry, Maps, container_key, procfs};
use varmor_ebpf::{Enforcer, Error, LoadOptions, ViolationReader};
use varmor_policy::plan::bpf::BpfProfile;

use super::{Binding, Bpf, Start, profile_key};
use crate::violations::pump::Source;

/// BPF of this kernel, or why there is none.
pub struct Kernel(Result<Loaded, String>);

struct Loaded {
    /// Held while a profile is replaced, which waits for the kernel (an RCU grace period).
    enforcer: Arc<Mutex<Enforcer>>,
    /// A second handle, so that bindings need not wait for that.
    maps: Maps,
    missing: Vec<(String, String)>,
    /// Profiles without rules: to be removed with their last container.
    emptied: Mutex<BTreeSet<String>>,
}

impl Kernel {
    /// Brings the programs into force, or takes over those that are; and the reader of what they report. A kernel that
    /// can't is no error here: the policies that ask for BPF then are.
    pub fn open(pin_dir: &Path) -> (Self, Option<Box<dyn Source>>) {
        match load(pin_dir) {
            Ok((loaded, reader)) => (Self(Ok(loaded)), Some(Box::new(reader))),
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!("no policy can use BPF: {reason}");
                (Self(Err(reason)), None)
            }
        }
    }

    fn loaded(&self) -> Result<&Loaded, String> {
        self.0.as_ref().map_err(Clone::clone)
    }
}

fn load(pin_dir: &Path) -> Result<(Loaded, Reader), Error> {
    let (enforcer, report) = Enforcer::load(&LoadOptions {
        pin_dir: pin_dir.to_owned(),
    })?;
    tracing::info!(
        "BPF programs: {} attached, {} adopted, {} removed",
        report.attached.len(),
        report.adopted.len(),
        report.removed.len()
    );
    let missing = report.missing.iter().map(|missing| {
        tracing::warn!("{missing}");
        (
            missing.hook.to_owned(),
            format!("{} ({})", missing.not_enforced, missing.reason),
        )
    });
    let missing = missing.collect();
    let maps = Maps::open(pin_dir)?;
    let violations = enforcer.violations()?;
    let enforcer = Arc::new(Mutex::new(enforcer));
    let reader = Reader {
        violations,
        enforcer: enforcer.clone(),
    };
    let loaded = Loaded {
        enforcer,
        maps,
        missing,
        emptied: Mutex::default(),
    };
    Ok((loaded, reader))
}

impl Loaded {
    fn enforcer(&self) -> MutexGuard<'_, Enforcer> {
        self.enforcer.lock().expect("a panic aborts the process")
    }

    fn emptied(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.emptied.lock().expect("a panic aborts the process")
    }
}

/// The container's entry in the maps.
fn entry<T>(
    start: &Start,
    use_entry: impl FnOnce(&Entry<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let mntns = procfs::mount_namespace(start.init).map_err(|error| error.to_string())?;
    if procfs::mount_namespace(1).is_ok_and(|host| host == mntns) {
        return Err(
            "it has no mount namespace of its own, so that BPF can't tell it from the node"
                .to_owned(),
        );
    }
    let addresses: Vec<Ipv6Addr> = if start.addresses.is_empty() {
        procfs::pod_addresses(start.init).map_err(|error| error.to_string())?
    } else {
        let mapped = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
            std::net::IpAddr::V6(address) => *address,
        };
        start.addresses.iter().map(mapped).collect()
    };
    use_entry(&Entry {
        container_id: &start.container,
        init_tgid: start.init,
        mntns,
        profile_key: profile_key(start.profile.as_deref()),
        addresses: &addresses,
    })
}

impl Bpf for Kernel {
    fn unavailable(&self) -> Option<String> {
        self.0.as_ref().err().cloned()
    }

    fn missing(&self) -> Vec<(String, String)> {
        self.0
            .as_ref()
            .map(|loaded| loaded.missing.clone())
            .unwrap_or_default()
    }

    fn set_profile(&self, profile: &str, tables: &BpfProfile) -> Result<(), String> {
        let loaded = self.loaded()?;
        loaded
            .enforcer()
            .set_profile(profile, tables)
            .map_err(|error| error.to_string())?;
        loaded.emptied().remove(profile);
        Ok(())
    }

    fn remove_profile(&self, profile: &str) -> Result<bool, String> {
        let loaded = self.loaded()?;
        match loaded.enforcer().remove_profile(profile) {
            Ok(()) => {
                loaded.emptied().remove(profile);
                return Ok(true);
            }
            Err(Error::InUse { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        if !loaded.emptied().contains(profile) {
            let nothing = BpfProfile::default();
            loaded
                .enforcer()
                .set_profile(profile, &nothing)
                .map_err(|error| error.to_string())?;
            loaded.emptied().insert(profile.to_owned());
        }
        Ok(false)
    }

    fn binding(&self, container: &str) -> Result<Option<Binding>, String> {
        let maps = &self.loaded()?.maps;
        let key = container_key(container);
        let Some(entry) = maps.container(key).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let state = maps.state(key).map_err(|error| error.to_string())?;
        Ok(Some(Binding {
            profile: entry.profile,
            init: entry.init_tgid,
            active: state.is_some_and(|state| state.state == CONTAINER_ACTIVE),
        }))
    }

    fn switch(&self, container: &str, profile: Option<&str>) -> Result<(), String> {
        let maps = &self.loaded()?.maps;
        maps.set_profile(container, profile_key(profile))
            .map_err(|error| error.to_string())
    }

    fn bind_starting(&self, start: &Start) -> Result<(), String> {
        let maps = &self.loaded()?.maps;
        entry(start, |entry| {
            maps.bind(entry).map_err(|error| error.to_string())
        })
    }

    fn bind_running(&self, start: &Start) -> Result<u32, String> {
        let loaded = self.loaded()?;
        let mark = |entry: &Entry<'_>| {
            loaded
                .enforcer()
                .mark_running(entry)
                .map_err(|error| error.to_string())
        };
        entry(start, mark).map(|marked| marked.tasks)
    }

    fn unbind(&self, container: &str) -> Result<(), String> {
        self.loaded()?
            .maps
            .unbind(container)
            .map_err(|error| error.to_string())
    }
}

/// What the programs report.
struct Reader {
    violations: ViolationReader,
    /// For the counters only.
    enforcer: Arc<Mutex<Enforcer>>,
}

impl Source for Reader {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut descriptor = libc::pollfd {
            fd: self.violations.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one structure of ours, whose descriptor lives as long as `self`.
        let ready = unsafe { libc::poll(&raw mut descriptor, 1, milliseconds) };
        if ready >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        }
    }

    fn next(&mut self) -> Option<Result<varmor_ebpf::Violation, String>> {
        Some(
            self.violations
                .next_violation()?
                .map_err(|error| error.to_string()),
        )
    }

    fn failures(&mut self) -> Result<(u64, u64), String> {
        let counters = self
            .enforcer
            .lock()
            .expect("a panic aborts the process")
            .counters()
            .map_err(|error| error.to_string())?;
        let failed = [
            counters.no_automaton,
            counters.no_profile,
            counters.mark_failed,
            counters.held_up,
        ];
        Ok((counters.events_lost, failed.iter().sum()))
    }
}
