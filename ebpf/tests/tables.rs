// SPDX-License-Identifier: Apache-2.0
//! Profiles in the maps of the real objects, on this machine's kernel and in a bpffs of the test's own. Needs root. That
//! the programs load and refuse is tested in the VM (examples/smoke.rs): not every kernel takes LSM programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use aya::Btf;
use varmor_bpf_abi::layout::{
    ABI_VERSION, ChildKey, Class, Meta, Plain, PrefixKey, PrefixValue, Profile,
};
use varmor_bpf_abi::sys::{ANY, Map, MapType, Shape};
use varmor_bpf_abi::{Binding, container_key, domain_key, pins, profile_key};
use varmor_ebpf::error::RulesError;
use varmor_ebpf::object::{PINNED_MAPS, Variant, instantiate};
use varmor_ebpf::profile_tables::{read, read_child};
use varmor_ebpf::tables::{MetaTable, Tables};
use varmor_ebpf::{Counters, Enforcer, Error};
use varmor_policy::plan::automaton::{Automaton, PathVerdict};
use varmor_policy::plan::bpf::{BpfChild, BpfProfile, Masks, MountSet, Mounts};
use varmor_policy::plan::egress::{AddressPrefix, Egress, PortSet};

/// Pins in a bpffs that is unmounted in the end.
struct Pins(tempfile::TempDir);

impl Pins {
    fn make(variant: Variant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "mounting a bpffs needs root");
        let pins = Self(dir);
        varmor_ebpf::host::prepare_pin_dir(&pins.dir()).unwrap();
        MetaTable::open(&pins.dir()).unwrap();
        instantiate(variant, &Btf::from_sys_fs().unwrap(), &pins.dir()).unwrap();
        pins
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("varmor")
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// An automaton that accepts nothing, with so many states.
fn automaton(states: usize, deny: u16) -> Automaton {
    Automaton {
        classes: [0; 256],
        stride_shift: 3,
        start: 1,
        transitions: vec![0; states << 3],
        accept: vec![0; states],
        verdicts: vec![
            PathVerdict::default(),
            PathVerdict {
                deny,
                ..PathVerdict::default()
            },
        ],
    }
}

fn rules(states: usize, network: &str) -> BpfProfile {
    let ports = PortSet {
        ranges: vec![(80, 80, true, true)],
    };
    BpfProfile {
        capabilities: Masks {
            deny: 1 << 21,
            audit: 0,
        },
        forward: Some(automaton(states, 2)),
        backward: Some(automaton(2, 1)),
        mounts: Some(Mounts {
            automaton: automaton(2, 0),
            sets: vec![MountSet::default()],
        }),
        egress: Some(Egress {
            prefixes: vec![AddressPrefix {
                address: network.parse().unwrap(),
                length: 104,
                port_set: 1,
            }],
            pod_self: 0,
            port_sets: vec![PortSet::default(), ports],
        }),
        ..BpfProfile::default()
    }
}

/// The rules, and the same but for one thing for each of these executables.
fn with_children(targets: &[&str]) -> BpfProfile {
    let child = |target: &&str| BpfChild {
        targets: vec![(*target).to_owned()],
        profile: BpfProfile {
            forward: Some(automaton(4 + target.len(), 2)),
            ..rules(4, "::ffff:10.0.0.0")
        },
    };
    BpfProfile {
        children: targets.iter().map(child).collect(),
        ..rules(4, "::ffff:10.0.0.0")
    }
}

fn children(dir: &Path) -> Vec<ChildKey> {
    let keys = Map::open(&dir.join(pins::CHILDREN))
        .unwrap()
        .keys()
        .unwrap();
    keys.iter()
        .filter_map(|key| ChildKey::from_bytes(key))
        .collect()
}

/// Entries of (profiles, automata by class, prefixes).
fn entries(dir: &Path) -> (usize, [usize; 4], usize) {
    let count = |name: &str| Map::open(&dir.join(name)).unwrap().keys().unwrap().len();
    (
        count(pins::PROFILES),
        Class::ALL.map(|class| count(class.map())),
        count(pins::PREFIXES),
    )
}

fn profile(dir: &Path, name: &str) -> Profile {
    read(&Tables::open(dir).unwrap(), profile_key(name))
        .unwrap()
        .unwrap()
}

#[test]
fn both_objects_make_their_maps_and_find_them_again() {
    for variant in [Variant::TaskStorage, Variant::ByPointer] {
        let pins = Pins::make(variant);
        let ids = |dir: &Path| PINNED_MAPS.map(|name| Map::open(&dir.join(name)).unwrap().id());
        let before = ids(&pins.dir());
        instantiate(variant, &Btf::from_sys_fs().unwrap(), &pins.dir()).unwrap();
        assert_eq!(ids(&pins.dir()), before);
        let enforcer = Enforcer::open(&pins.dir()).unwrap();
        assert_eq!(enforcer.counters().unwrap(), Counters::default());
        assert!(enforcer.violations().unwrap().next_violation().is_none());
    }
}

#[test]
fn a_profile_is_written_whole_replaced_and_removed() {
    let pins = Pins::make(Variant::TaskStorage);
    let mut enforcer = Enforcer::open(&pins.dir()).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &rules(4, "::ffff:10.0.0.0"))
        .unwrap();
    assert_eq!(entries(&pins.dir()), (1, [3, 0, 0, 0], 2));
    let first = profile(&pins.dir(), "varmor-demo-a");
    assert_eq!(
        (first.key, first.capabilities_deny),
        (profile_key("varmor-demo-a"), 1 << 21)
    );
    assert_eq!(
        (
            first.forward.permissions,
            first.backward.permissions,
            first.mount.permissions
        ),
        (2, 1, 0)
    );

    // The automaton in the kernel is the one of the plan.
    let array = Map::open(&pins.dir().join(pins::AUTOMATA_S))
        .unwrap()
        .lookup(&first.forward.key.to_bytes());
    let array = Map::by_id(u32::from_bytes(&array.unwrap().unwrap()).unwrap()).unwrap();
    let (_, bytes) = varmor_ebpf::automata::encode(&automaton(4, 2)).unwrap();
    assert_eq!(array.lookup(&0_u32.to_bytes()).unwrap(), Some(bytes));

    // The longest prefix of an address is found, under the profile's generation only.
    let prefixes = Map::open(&pins.dir().join(pins::PREFIXES)).unwrap();
    let address = |generation| {
        let data = "::ffff:10.9.8.7"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets();
        PrefixKey {
            length: 96 + 128,
            table: 0,
            generation,
            data,
        }
        .to_bytes()
    };
    let found = prefixes
        .lookup(&address(first.generation))
        .unwrap()
        .and_then(|bytes| PrefixValue::from_bytes(&bytes));
    assert_eq!(
        found,
        Some(PrefixValue {
            port_set: 1,
            ..PrefixValue::default()
        })
    );
    assert_eq!(
        prefixes.lookup(&address(first.generation + 1)).unwrap(),
        None
    );

    // A replacement of another size leaves nothing of the old one.
    enforcer
        .set_profile("varmor-demo-a", &rules(2000, "::ffff:11.0.0.0"))
        .unwrap();
    assert_eq!(entries(&pins.dir()), (1, [2, 1, 0, 0], 2));
    let second = profile(&pins.dir(), "varmor-demo-a");
    assert_ne!(
        (second.generation, second.forward.key),
        (first.generation, first.forward.key)
    );

    enforcer
        .set_profile("varmor-demo-b", &BpfProfile::default())
        .unwrap();
    assert_eq!(entries(&pins.dir()), (2, [2, 1, 0, 0], 2));
    enforcer.remove_profile("varmor-demo-a").unwrap();
    assert_eq!(entries(&pins.dir()), (1, [0, 0, 0, 0], 0));
    enforcer.remove_profile("varmor-demo-a").unwrap();
    assert_eq!(enforcer.profiles().unwrap(), [profile_key("varmor-demo-b")]);
}

#[test]
fn children_come_and_go_with_their_profile() {
    let pins = Pins::make(Variant::TaskStorage);
    let dir = pins.dir();
    let mut enforcer = Enforcer::open(&dir).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &with_children(&["/bin/sh", "/bin/bash"]))
        .unwrap();
    let parent = profile(&dir, "varmor-demo-a");
    let mut keys = children(&dir);
    keys.sort_unstable_by_key(|key| key.domain);
    let mut expected = ["/bin/sh", "/bin/bash"].map(domain_key);
    expected.sort_unstable();
    assert_eq!(
        keys.iter().map(|key| key.domain).collect::<Vec<_>>(),
        expected
    );
    assert!(keys.iter().all(|key| key.generation == parent.generation));
    // Three of the profile, the targets', and a file automaton for each child: equal ones and equal prefixes are shared.
    assert_eq!(entries(&dir), (1, [6, 0, 0, 0], 2));
    let tables = Tables::open(&dir).unwrap();
    let child = read_child(&tables, &keys[0]).unwrap().unwrap();
    assert_eq!(
        (child.key, child.generation, child.backward, child.targets),
        (
            parent.key,
            parent.generation,
            parent.backward,
            Default::default()
        )
    );
    assert_ne!(child.forward, parent.forward);
    assert_eq!(parent.targets.class, Class::S.number());
    drop(tables);

    // A replacement leaves nothing of the old children, and another process finds the new ones.
    enforcer
        .set_profile("varmor-demo-a", &with_children(&["/bin/sh"]))
        .unwrap();
    assert_eq!(
        (children(&dir).len(), entries(&dir)),
        (1, (1, [5, 0, 0, 0], 2))
    );
    drop(enforcer);
    let mut enforcer = Enforcer::open(&dir).unwrap();
    assert_eq!(
        (children(&dir).len(), entries(&dir)),
        (1, (1, [5, 0, 0, 0], 2))
    );
    enforcer
        .set_profile("varmor-demo-a", &BpfProfile::default())
        .unwrap();
    assert_eq!((children(&dir).len(), entries(&dir)), (0, (1, [0; 4], 0)));
    enforcer
        .set_profile("varmor-demo-a", &with_children(&["/bin/sh"]))
        .unwrap();
    enforcer.remove_profile("varmor-demo-a").unwrap();
    assert_eq!((children(&dir).len(), entries(&dir)), (0, (0, [0; 4], 0)));
}

#[test]
fn children_that_do_not_fit_leave_the_old_profile() {
    let pins = Pins::make(Variant::ByPointer);
    let dir = pins.dir();
    let mut enforcer = Enforcer::open(&dir).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &with_children(&["/bin/sh"]))
        .unwrap();
    let before = (
        profile(&dir, "varmor-demo-a"),
        children(&dir),
        entries(&dir),
    );
    let error = enforcer
        .set_profile("varmor-demo-a", &with_children(&["/bin/bash", "/bin/bash"]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("varmor-demo-a: two sets of rules are for the executable /bin/bash"),
        "{error}"
    );
    let mut large = with_children(&["/bin/bash"]);
    large.children[0].profile.forward = Some(automaton(65537, 2));
    assert!(enforcer.set_profile("varmor-demo-a", &large).is_err());
    let after = (
        profile(&dir, "varmor-demo-a"),
        children(&dir),
        entries(&dir),
    );
    assert_eq!(after, before);
}

#[test]
fn the_largest_automaton_fits() {
    let pins = Pins::make(Variant::ByPointer);
    let mut enforcer = Enforcer::open(&pins.dir()).unwrap();
    let rules = BpfProfile {
        forward: Some(automaton(65536, 2)),
        ..BpfProfile::default()
    };
    enforcer.set_profile("varmor-demo-a", &rules).unwrap();
    assert_eq!(entries(&pins.dir()), (1, [0, 0, 0, 1], 0));
}

#[test]
fn rules_that_do_not_fit_leave_the_old_profile() {
    let pins = Pins::make(Variant::TaskStorage);
    let mut enforcer = Enforcer::open(&pins.dir()).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &rules(4, "::ffff:10.0.0.0"))
        .unwrap();
    let before = profile(&pins.dir(), "varmor-demo-a");
    let error = enforcer
        .set_profile("varmor-demo-a", &rules(65537, "::ffff:10.0.0.0"))
        .unwrap_err();
    assert!(
        matches!(&error, Error::Rules { source, .. } if matches!(**source, RulesError::Automaton { automaton: "file", .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("varmor-demo-a: file rules: 65537 states are more than the 65536"),
        "{error}"
    );
    assert_eq!(profile(&pins.dir(), "varmor-demo-a"), before);
    assert_eq!(entries(&pins.dir()), (1, [3, 0, 0, 0], 2));
}

#[test]
fn what_an_interrupted_update_left_is_collected() {
    let pins = Pins::make(Variant::TaskStorage);
    let dir = pins.dir();
    let mut enforcer = Enforcer::open(&dir).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &rules(4, "::ffff:10.0.0.0"))
        .unwrap();
    let before = profile(&dir, "varmor-demo-a");

    let shape = Shape {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: Class::S.size() as u32,
        max_entries: 1,
    };
    let array = Map::create(shape, 0, "left").unwrap();
    let automata = Map::open(&dir.join(pins::AUTOMATA_S)).unwrap();
    automata
        .update_map(&77_u64.to_bytes(), &array, ANY)
        .unwrap();
    let prefixes = Map::open(&dir.join(pins::PREFIXES)).unwrap();
    let left = PrefixKey {
        length: 96 + 8,
        table: 0,
        generation: 77,
        data: [10; 16],
    };
    prefixes
        .update(&left.to_bytes(), &PrefixValue::default().to_bytes(), ANY)
        .unwrap();
    let child = Map::create(
        Shape {
            value_size: Profile::SIZE as u32,
            ..shape
        },
        0,
        "left",
    )
    .unwrap();
    let left = ChildKey {
        generation: 77,
        domain: 1,
    };
    Map::open(&dir.join(pins::CHILDREN))
        .unwrap()
        .update_map(&left.to_bytes(), &child, ANY)
        .unwrap();
    assert_eq!(entries(&dir), (1, [4, 0, 0, 0], 3));

    // A second writer would take the first one's unfinished work for what an interrupted update left.
    let error = Enforcer::open(&dir).unwrap_err();
    assert!(
        error.to_string().contains("is varmor-nri running already?"),
        "{error}"
    );
    drop(enforcer);

    // A new process finds the profile, deletes what nobody names, and can still replace and remove the profile.
    let mut enforcer = Enforcer::open(&dir).unwrap();
    assert_eq!(entries(&dir), (1, [3, 0, 0, 0], 2));
    assert_eq!(children(&dir), []);
    assert_eq!(profile(&dir, "varmor-demo-a"), before);
    enforcer.remove_profile("varmor-demo-a").unwrap();
    assert_eq!(entries(&dir), (0, [0; 4], 0));
}

#[test]
fn a_profile_in_use_stays() {
    let pins = Pins::make(Variant::TaskStorage);
    let mut enforcer = Enforcer::open(&pins.dir()).unwrap();
    enforcer
        .set_profile("varmor-demo-a", &BpfProfile::default())
        .unwrap();
    let profile_key = profile_key("varmor-demo-a");
    enforcer
        .bind(&Binding {
            container_id: "c1",
            init_tgid: 9,
            mntns: 42,
            profile_key,
            addresses: &[],
        })
        .unwrap();
    let error = enforcer.remove_profile("varmor-demo-a").unwrap_err();
    assert!(
        matches!(error, Error::InUse { containers: 1, .. }),
        "{error}"
    );
    enforcer.set_container_profile("c1", 0).unwrap();
    enforcer.remove_profile("varmor-demo-a").unwrap();
    assert!(enforcer.set_container_profile("c1", profile_key).is_err());
    assert_eq!(
        enforcer
            .bindings()
            .container(container_key("c1"))
            .unwrap()
            .unwrap()
            .profile,
        0
    );
    enforcer.unbind("c1").unwrap();
    assert_eq!(enforcer.bindings().containers().unwrap(), []);
}

#[test]
fn the_daemon_can_share_its_parts_among_tasks() {
    fn is_send<T: Send>() {}
    is_send::<Enforcer>();
    is_send::<varmor_ebpf::ViolationReader>();
}

#[test]
fn pins_of_another_version_are_not_touched() {
    let pins = Pins::make(Variant::TaskStorage);
    let meta = Map::open(&pins.dir().join(pins::META)).unwrap();
    let other = Meta {
        abi_version: ABI_VERSION + 1,
        ..Meta::default()
    };
    meta.update(&0_u32.to_bytes(), &other.to_bytes(), ANY)
        .unwrap();
    let error = MetaTable::open(&pins.dir()).unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "layout version {}, this program knows version {ABI_VERSION}",
            ABI_VERSION + 1
        )),
        "{error}"
    );
    assert!(Enforcer::open(&pins.dir()).is_err());
}
