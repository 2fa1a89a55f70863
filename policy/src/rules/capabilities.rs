// SPDX-License-Identifier: Apache-2.0
//! `hardeningRules` that take capabilities away.

use super::{AppArmorPart, BpfPart, Group, RULE, Rule};
use crate::capability::{ALL, DEFAULT, mask};

/// One rule for each capability, and for sets of them. A line is the capability, what a holder can do, and what for.
macro_rules! rules {
    (
        $($set:literal: $mask:expr, $restricts:literal, $why:literal;)*
        each: $($capability:literal: $holder:literal, $abuse:literal;)*
    ) => {
        pub(super) const RULES: &[Rule] = &[
            $(Rule {
                name: $set,
                group: Group::Hardening,
                restricts: $restricts,
                why: $why,
                apparmor: &[AppArmorPart::Capabilities($mask)],
                bpf: &[BpfPart::Capabilities($mask)],
                ..RULE
            },)*
            $(Rule {
                name: concat!("disable-cap-", $capability),
                group: Group::Hardening,
                restricts: concat!("the capability to ", $holder),
                why: $abuse,
                apparmor: &[AppArmorPart::Capabilities(mask(&[$capability]))],
                bpf: &[BpfPart::Capabilities(mask(&[$capability]))],
                ..RULE
            },)*
        ];

        #[cfg(test)]
        const EACH: &[&str] = &[$($capability),*];
    };
}

rules! {
    "disable-cap-all": ALL,
        "every capability",
        "a process without capabilities is an ordinary user to the kernel, whatever its user id";
    "disable-cap-all-except-net-bind-service": ALL & !mask(&["net-bind-service"]),
        "every capability but that to use ports below 1024",
        "a server that only binds its port needs no other";
    "disable-cap-privileged": ALL & !DEFAULT,
        "every capability that containerd does not grant by default",
        "these are the capabilities that break out of a container";
    each:
    "chown": "change the owner of any file", "a file with a program of the attacker's can be given to root";
    "dac-override": "read, write and execute files whatever their modes say",
        "files of the host in a volume have no protection but their modes";
    "dac-read-search": "read files and search directories whatever their modes say",
        "open_by_handle_at reads any file of the host's disk with it";
    "fowner": "act as the owner of any file", "modes of others' files can be changed, and then the files";
    "fsetid": "keep set-user-id and set-group-id bits when a file changes",
        "a program that runs as root can be given new content";
    "kill": "signal processes of any user", "monitoring and defence on the same node can be stopped";
    "setgid": "take any group id", "a process can join a group that owns files of the host";
    "setuid": "take any user id", "a process can become any user, root included";
    "setpcap": "change capabilities beyond the process's own set",
        "capabilities that were given up can be taken back from the bounding set";
    "linux-immutable": "set and clear the append-only and immutable flags", "logs lose their protection against changes";
    "net-bind-service": "bind ports below 1024", "with the host's network, a system service can be impersonated";
    "net-broadcast": "send broadcasts and listen to multicasts", "the kernel does not use it, and neither do programs";
    "net-admin": "configure the network",
        "routes, firewall rules and interfaces can be changed, and the code behind them has had many holes";
    "net-raw": "make raw and packet sockets", "they forge ARP, DNS and ICMP to other pods and to the host";
    "ipc-lock": "lock memory without limit", "the node can be driven out of memory";
    "ipc-owner": "use System V IPC objects of any user", "memory shared by others can be read and changed";
    "sys-module": "load and unload kernel modules", "a module is code in the host's kernel";
    "sys-rawio": "use I/O ports, /dev/mem and raw disk commands", "the host's memory and disks can be read and written";
    "sys-chroot": "call chroot and enter mount namespaces", "known ways out of a container use chroot";
    "sys-ptrace": "trace and read processes of any user",
        "with the host's pid namespace, its processes can be made to run other code";
    "sys-pacct": "switch process accounting", "accounting writes a file of the caller's choice for every process that ends";
    "sys-admin": "mount, enter namespaces, and do much else", "most ways out of a container need it, and it alone";
    "sys-boot": "reboot, and load another kernel", "kexec runs a kernel of the attacker's";
    "sys-nice": "raise priorities and choose CPUs for any process", "others on the node can be starved";
    "sys-resource": "go beyond limits and quotas", "the node can be exhausted";
    "sys-time": "set the clocks", "the clock is the host's, and certificates, tokens and logs depend on it";
    "sys-tty-config": "configure terminals and hang them up", "terminals of the host can be taken over";
    "mknod": "make device files", "a device file for the host's disk reads and writes it";
    "lease": "take leases on any file", "a lease delays others that open the file";
    "audit-write": "write records of the audit log", "the log can be forged and flooded";
    "audit-control": "change the rules of the audit log", "the log can be switched off";
    "setfcap": "give capabilities to files", "whoever executes such a file gets them";
    "mac-override": "ignore mandatory access control", "Smack's rules no longer hold";
    "mac-admin": "change mandatory access control", "AppArmor profiles can be replaced";
    "syslog": "read the kernel log and clear it", "it holds kernel addresses, and traces of an attack";
    "wake-alarm": "set timers that wake the machine up", "nothing in a container has a use for it";
    "block-suspend": "keep the machine from suspending", "nothing in a container has a use for it";
    "audit-read": "read the audit log", "it tells what the whole node does";
    "perfmon": "use performance counters and tracing of the whole machine", "they leak what others on the node do";
    "bpf": "load BPF programs", "the verifier's bugs run code in the kernel, and tracing programs see the whole node";
    "checkpoint-restore": "choose the ids of new processes and read those of others for checkpoints",
        "files that other processes have mapped can be opened";
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_capability_has_its_rule() {
        let expected: Vec<String> = crate::capability::NAMES
            .iter()
            .map(|name| name.replace('_', "-"))
            .collect();
        assert_eq!(super::EACH, expected);
    }
}
