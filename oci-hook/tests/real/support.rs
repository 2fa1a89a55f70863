// SPDX-License-Identifier: Apache-2.0
//! A node for the tests: directories, real BPF maps in a bpffs of its own, bundles, and processes in mount namespaces of
//! their own. Needs root, as the hook does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use varmor_bpf_abi::layout::{ABI_VERSION, Container, ContainerState, Meta, Plain};
use varmor_bpf_abi::sys::{ANY, Map, MapType, NO_PREALLOC, Shape};
use varmor_bpf_abi::{Maps, pins, profile_key};
use varmor_node_state::{Layout, NodeState};

pub struct Node {
    directory: tempfile::TempDir,
    pub state: NodeState,
}

impl Node {
    /// A node without BPF maps.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["bpf", "bundle"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let layout = Layout {
            run: directory.path().join("run"),
            state: directory.path().join("state"),
        };
        let mount = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(directory.path().join("bpf"))
            .status()
            .unwrap();
        assert!(mount.success(), "mounting a bpffs needs root");
        Self {
            directory,
            state: NodeState::new(layout),
        }
    }

    /// A node whose maps are pinned, with these profiles loaded.
    pub fn with_maps(profiles: &[&str]) -> Self {
        let node = Self::new();
        let array = |value| shape(MapType::ARRAY, 4, value, 1);
        let meta = node.pin(pins::META, array(Meta::SIZE), 0, None);
        meta.update(
            &[0; 4],
            &Meta {
                abi_version: ABI_VERSION,
                ..Meta::default()
            }
            .to_bytes(),
            ANY,
        )
        .unwrap();
        let hash = |key, value| shape(MapType::HASH, key, value, 16);
        node.pin(
            pins::CONTAINERS,
            hash(8, Container::SIZE),
            NO_PREALLOC,
            None,
        );
        node.pin(
            pins::STATES,
            hash(8, ContainerState::SIZE),
            NO_PREALLOC,
            None,
        );
        node.pin(pins::NAMESPACES, hash(4, 8), NO_PREALLOC, None);
        let inner = Map::create(array(8), 0, "inner").unwrap();
        let outer = node.pin(
            pins::PROFILES,
            shape(MapType::HASH_OF_MAPS, 8, 4, 16),
            0,
            Some(&inner),
        );
        for profile in profiles {
            outer
                .update_map(&profile_key(profile).to_ne_bytes(), &inner, ANY)
                .unwrap();
        }
        node
    }

    fn pin(&self, name: &str, shape: Shape, flags: u32, inner: Option<&Map>) -> Map {
        let map = match inner {
            Some(inner) => Map::create_outer(shape, flags, name, inner),
            None => Map::create(shape, flags, name),
        }
        .unwrap();
        map.pin(&self.bpf().join(name)).unwrap();
        map
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn bpf(&self) -> PathBuf {
        self.path("bpf")
    }

    pub fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub fn maps(&self) -> Maps {
        Maps::open(&self.bpf()).unwrap()
    }

    pub fn write_config(&self, config: &Value) {
        fs::write(self.bundle().join("config.json"), config.to_string()).unwrap();
    }

    pub fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.bundle().join("config.json")).unwrap()).unwrap()
    }

    /// The hook's own log, a line each.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("hook.log")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The hook's options for this node.
    pub fn options(&self) -> Vec<String> {
        [
            ("--run-dir", "run"),
            ("--state-dir", "state"),
            ("--bpf-dir", "bpf"),
            ("--log", "hook.log"),
        ]
        .into_iter()
        .flat_map(|(option, name)| {
            [
                option.to_owned(),
                self.path(name).to_str().unwrap().to_owned(),
            ]
        })
        .collect()
    }

    /// Runs the hook as a runtime does.
    pub fn hook(&self, word: &str, state: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_varmor-oci-hook"))
            .args(self.options())
            .arg(word)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The hook may give up before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(state.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The OCI state of container `id` in the node's bundle.
    pub fn oci_state(&self, id: &str, pid: u32) -> String {
        serde_json::json!({"ociVersion": "1.2.0", "id": id, "status": "creating", "pid": pid, "bundle": self.bundle()})
            .to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.bpf()).status();
    }
}

fn shape(map_type: MapType, key: usize, value: usize, max_entries: u32) -> Shape {
    let number = |size| u32::try_from(size).unwrap();
    Shape {
        map_type,
        key_size: number(key),
        value_size: number(value),
        max_entries,
    }
}

/// A process that sleeps until it is dropped.
pub struct Init(Child);

impl Init {
    /// In a mount namespace of its own.
    pub fn new() -> Self {
        Self::start(Command::new("unshare").args(["--mount", "sh", "-c", "echo; exec cat"]))
    }

    /// In the mount namespace of the node.
    pub fn of_the_node() -> Self {
        Self::start(Command::new("sh").args(["-c", "echo; exec cat"]))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "\n", "the process did not start");
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn mntns(&self) -> u32 {
        varmor_bpf_abi::procfs::mount_namespace(self.pid()).unwrap()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program said on standard error: one line.
#[track_caller]
pub fn sentence(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    text.trim_end().to_owned()
}

#[track_caller]
pub fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
