// SPDX-License-Identifier: Apache-2.0
//! Binding containers in real maps, pinned in a bpffs of the test's own. Needs root, as the hook does.

use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Command;

use varmor_bpf_abi::binding::{Binding, Error, Maps};
use varmor_bpf_abi::layout::{
    ABI_VERSION, CONTAINER_PENDING, Container, ContainerState, Meta, POD_ADDRESSES, Plain,
};
use varmor_bpf_abi::sys::{ANY, Map, MapType, NO_PREALLOC, Shape};
use varmor_bpf_abi::{container_key, pins, profile_key};

/// A bpffs that is unmounted in the end.
struct BpfFs(tempfile::TempDir);

impl BpfFs {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "mounting a bpffs needs root");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn create(
    dir: &Path,
    name: &str,
    map_type: MapType,
    key: usize,
    value: usize,
    entries: u32,
) -> Map {
    let shape = Shape {
        map_type,
        key_size: u32::try_from(key).unwrap(),
        value_size: u32::try_from(value).unwrap(),
        max_entries: entries,
    };
    let flags = if map_type == MapType::HASH {
        NO_PREALLOC
    } else {
        0
    };
    let map = if map_type == MapType::HASH_OF_MAPS {
        let inner = Shape {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
        };
        let inner = Map::create(inner, 0, "inner").unwrap();
        Map::create_outer(shape, flags, name, &inner).unwrap()
    } else {
        Map::create(shape, flags, name).unwrap()
    };
    map.pin(&dir.join(name)).unwrap();
    map
}

fn pins(dir: &Path, entries: u32) {
    let meta = create(dir, pins::META, MapType::ARRAY, 4, Meta::SIZE, 1);
    let value = Meta {
        abi_version: ABI_VERSION,
        ..Meta::default()
    };
    meta.update(&0_u32.to_bytes(), &value.to_bytes(), ANY)
        .unwrap();
    create(
        dir,
        pins::CONTAINERS,
        MapType::HASH,
        8,
        Container::SIZE,
        entries,
    );
    create(
        dir,
        pins::STATES,
        MapType::HASH,
        8,
        ContainerState::SIZE,
        entries,
    );
    create(dir, pins::NAMESPACES, MapType::HASH, 4, 8, entries);
    let profiles = create(dir, pins::PROFILES, MapType::HASH_OF_MAPS, 8, 4, entries);
    let inner = Shape {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
    };
    let inner = Map::create(inner, 0, "inner").unwrap();
    profiles
        .update_map(&profile_key("varmor-demo-p").to_bytes(), &inner, ANY)
        .unwrap();
}

fn binding(container_id: &str, mntns: u32) -> Binding<'_> {
    Binding {
        container_id,
        init_tgid: 7,
        mntns,
        profile_key: profile_key("varmor-demo-p"),
        addresses: &[],
    }
}

#[test]
fn a_container_is_bound_switched_and_unbound() {
    let fs = BpfFs::mount();
    pins(fs.path(), 16);
    let maps = Maps::open(fs.path()).unwrap();
    let (key, profile) = (container_key("c1"), profile_key("varmor-demo-p"));
    assert!(maps.profile_loaded(profile).unwrap());
    assert!(!maps.profile_loaded(profile_key("varmor-demo-q")).unwrap());
    assert!(!maps.profile_loaded(0).unwrap());

    let address: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
    maps.bind(&Binding {
        addresses: &[address],
        ..binding("c1", 42)
    })
    .unwrap();
    let bound = maps.container(key).unwrap().unwrap();
    assert_eq!(
        (bound.profile, bound.mntns, bound.init_tgid, bound.addresses),
        (profile, 42, 7, 1)
    );
    assert_eq!(bound.address[0], address.octets());
    assert_eq!(maps.namespace(42).unwrap(), Some(key));
    let state = maps.state(key).unwrap().unwrap();
    assert_eq!((state.state, state.mntns_seq), (CONTAINER_PENDING, 0));

    let error = maps
        .set_profile("c1", profile_key("varmor-demo-q"))
        .unwrap_err();
    assert!(matches!(&error, Error::NoProfile { .. }), "{error}");
    assert_eq!(maps.container(key).unwrap(), Some(bound));
    maps.set_profile("c1", 0).unwrap();
    assert_eq!(
        maps.container(key).unwrap(),
        Some(Container {
            profile: 0,
            ..bound
        })
    );
    assert_eq!(
        maps.state(key).unwrap(),
        Some(state),
        "the state is the programs' own"
    );

    maps.unbind("c1").unwrap();
    assert_eq!(maps.container(key).unwrap(), None);
    assert_eq!(maps.state(key).unwrap(), None);
    assert_eq!(maps.namespace(42).unwrap(), None);
    maps.unbind("c1").unwrap();
    assert!(matches!(
        maps.set_profile("c1", 0),
        Err(Error::NotBound { .. })
    ));
}

#[test]
fn a_reused_namespace_number_stays_with_its_new_container() {
    let fs = BpfFs::mount();
    pins(fs.path(), 16);
    let maps = Maps::open(fs.path()).unwrap();
    maps.bind(&binding("old", 42)).unwrap();
    maps.bind(&binding("new", 42)).unwrap();
    maps.bind(&binding("other", 43)).unwrap();
    maps.unbind("old").unwrap();
    assert_eq!(maps.namespace(42).unwrap(), Some(container_key("new")));
    let mut keys = [container_key("new"), container_key("other")];
    keys.sort_unstable();
    assert_eq!(
        maps.containers()
            .unwrap()
            .iter()
            .map(|(key, _)| *key)
            .collect::<Vec<_>>(),
        keys
    );
    assert_eq!(
        maps.namespaces().unwrap(),
        [(42, container_key("new")), (43, container_key("other"))]
    );
    assert!(maps.forget_namespace(43).unwrap());
    assert!(!maps.forget_namespace(43).unwrap());
}

#[test]
fn a_container_that_cannot_be_bound_leaves_nothing_behind() {
    let fs = BpfFs::mount();
    pins(fs.path(), 1);
    let maps = Maps::open(fs.path()).unwrap();
    maps.bind(&binding("c1", 42)).unwrap();
    let error = maps.bind(&binding("c2", 43)).unwrap_err();
    assert!(matches!(&error, Error::Full { entries: 1, .. }), "{error}");
    assert_eq!(maps.containers().unwrap().len(), 1);
    assert_eq!(maps.state(container_key("c2")).unwrap(), None);

    let addresses = [Ipv6Addr::LOCALHOST; POD_ADDRESSES + 1];
    let error = maps
        .bind(&Binding {
            addresses: &addresses,
            ..binding("c1", 42)
        })
        .unwrap_err();
    assert!(
        error.to_string().contains("c1 has 17 pod addresses"),
        "{error}"
    );
}

#[test]
fn pins_that_are_missing_old_or_wrong_are_named() {
    let fs = BpfFs::mount();
    let error = Maps::open(fs.path()).unwrap_err();
    assert!(
        matches!(&error, Error::NotLoaded { path } if path.ends_with("meta")),
        "{error}"
    );

    let meta = create(fs.path(), pins::META, MapType::ARRAY, 4, Meta::SIZE, 1);
    let error = Maps::open(fs.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Version {
                found: 0,
                expected: ABI_VERSION,
                ..
            }
        ),
        "{error}"
    );

    let value = Meta {
        abi_version: ABI_VERSION,
        ..Meta::default()
    };
    meta.update(&0_u32.to_bytes(), &value.to_bytes(), ANY)
        .unwrap();
    create(fs.path(), pins::CONTAINERS, MapType::HASH, 8, 8, 1);
    let error = Maps::open(fs.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Shape { path, .. } if path.ends_with("containers")),
        "{error}"
    );
}

#[test]
fn buffers_of_the_wrong_length_never_reach_the_kernel() {
    let shape = Shape {
        map_type: MapType::HASH,
        key_size: 8,
        value_size: 8,
        max_entries: 4,
    };
    let map = Map::create(shape, NO_PREALLOC, "lengths").unwrap();
    for result in [
        map.lookup(&[0; 4]).map(drop),
        map.update(&[0; 8], &[0; 4], ANY),
        map.update(&[0; 9], &[0; 8], ANY),
        map.delete(&[]).map(drop),
        map.next_key(Some(&[0; 7])).map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    let shape = Shape {
        map_type: MapType::PERCPU_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    };
    let map = Map::create(shape, 0, "cpus").unwrap();
    let values = map.lookup(&[0; 4]).unwrap().unwrap();
    assert_eq!(
        values.len(),
        8 * varmor_bpf_abi::sys::possible_cpus().unwrap()
    );
}
