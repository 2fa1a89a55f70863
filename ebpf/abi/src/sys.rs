// SPDX-License-Identifier: Apache-2.0
//! bpf(2) on maps and pins: the one place with `unsafe`.
//!
//! A [`Map`] knows from the kernel how long its keys and values are and refuses buffers of another length, so that the
//! kernel never reads or writes past one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// Kind of a map, `enum bpf_map_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapType(pub u32);

impl MapType {
    /// Hash table.
    pub const HASH: Self = Self(1);
    /// Array.
    pub const ARRAY: Self = Self(2);
    /// An array for each CPU.
    pub const PERCPU_ARRAY: Self = Self(6);
    /// Longest prefix match; needs [`NO_PREALLOC`].
    pub const LPM_TRIE: Self = Self(11);
    /// Hash table of maps.
    pub const HASH_OF_MAPS: Self = Self(13);
    /// Ring buffer (5.8).
    pub const RINGBUF: Self = Self(27);
    /// Storage in tasks (5.11).
    pub const TASK_STORAGE: Self = Self(29);
}

/// Map flag: entries are allocated when they are inserted.
pub const NO_PREALLOC: u32 = 1;

/// Insert or replace.
pub const ANY: u64 = 0;
/// Insert; EEXIST when the key is there.
pub const NOEXIST: u64 = 1;
/// Replace; ENOENT when the key isn't there.
pub const EXIST: u64 = 2;

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`, up to the name.
#[repr(C)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    /// Value, or the next key.
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
    pad: u32,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct InfoHead {
    map_type: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Calls bpf(2) and gives its result.
///
/// # Safety
///
/// `attr` must be what `command` reads, its pointers valid for what the kernel reads and writes through them.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is valid for its size; the caller vouches for what it holds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes the file descriptor that a bpf(2) command gave.
fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let raw = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for this call; nobody else has it. bpf(2) sets close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn path_of(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().addr() as u64
}

/// Opens what is pinned at `path`: a map, a program or a link.
pub fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_of(path)?;
    let mut attr = ObjectAttr {
        path: address(path.as_bytes_with_nul()),
        fd: 0,
        file_flags: 0,
    };
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    descriptor(unsafe { bpf(BPF_OBJ_GET, &mut attr) }?)
}

/// Pins a map, a program or a link at `path`, which must be on a bpffs and not exist; EPERM when the name has a dot.
pub fn object_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_of(path)?;
    let mut attr = ObjectAttr {
        path: address(path.as_bytes_with_nul()),
        fd: number(object),
        file_flags: 0,
    };
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Number of CPUs the kernel can ever have: a look-up in a per-CPU map gives a value for each.
pub fn possible_cpus() -> io::Result<usize> {
    let path = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(path)?;
    let last = text
        .trim()
        .rsplit([',', '-'])
        .next()
        .and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("{path} holds no list of CPUs: {text:?}")))
}

/// What a map is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Kind.
    pub map_type: MapType,
    /// Bytes of a key; 0 where there are none.
    pub key_size: u32,
    /// Bytes of a value, without what a per-CPU map adds.
    pub value_size: u32,
    /// Most entries; a ring buffer's bytes.
    pub max_entries: u32,
}

/// An open map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    shape: Shape,
    id: u32,
    value_bytes: usize,
}

impl Map {
    /// Makes a map; `name` is cut to the kernel's 15 bytes.
    pub fn create(shape: Shape, flags: u32, name: &str) -> io::Result<Self> {
        Self::create_with(shape, flags, name, None)
    }

    /// Makes a map of maps that are shaped like `inner`.
    pub fn create_outer(shape: Shape, flags: u32, name: &str, inner: &Self) -> io::Result<Self> {
        Self::create_with(shape, flags, name, Some(inner))
    }

    fn create_with(shape: Shape, flags: u32, name: &str, inner: Option<&Self>) -> io::Result<Self> {
        let mut attr = CreateAttr {
            map_type: shape.map_type.0,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            map_flags: flags,
            inner_map_fd: inner.map_or(0, |inner| number(inner.as_fd())),
            numa_node: 0,
            name: [0; 16],
        };
        for (to, from) in attr.name[..15].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        // SAFETY: the attribute holds no pointers.
        Self::from_fd(descriptor(unsafe { bpf(BPF_MAP_CREATE, &mut attr) }?)?)
    }

    /// Opens a pinned map; EINVAL when something else is pinned there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(object_get(path)?)
    }

    /// Opens a map by its id, as a look-up in a map of maps gives it; ENOENT when it is gone.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let mut attr = IdAttr {
            id,
            next_id: 0,
            open_flags: 0,
            pad: 0,
        };
        // SAFETY: the attribute holds no pointers.
        Self::from_fd(descriptor(unsafe {
            bpf(BPF_MAP_GET_FD_BY_ID, &mut attr)
        }?)?)
    }

    /// Takes over a map's descriptor; EINVAL when it isn't one.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // Programs and links answer the same command with their own structures: ask the descriptor what it is first.
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if !kind.as_os_str().as_bytes().ends_with(b"bpf-map") {
            let text = format!("not a BPF map but {}", kind.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut info = InfoHead::default();
        let mut attr = InfoAttr {
            fd: number(fd.as_fd()),
            length: u32::try_from(size_of::<InfoHead>()).map_err(io::Error::other)?,
            info: std::ptr::from_mut(&mut info).addr() as u64,
        };
        // SAFETY: the kernel writes `length` bytes at most to `info`, which is that long and outlives the call.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        let shape = Shape {
            map_type: MapType(info.map_type),
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
        };
        let value_bytes = match shape.map_type {
            MapType::PERCPU_ARRAY => {
                (info.value_size as usize).next_multiple_of(8) * possible_cpus()?
            }
            // The programs' value is a pointer, bpf(2)'s a descriptor or an id.
            MapType::HASH_OF_MAPS => size_of::<u32>(),
            _ => info.value_size as usize,
        };
        Ok(Self {
            fd,
            shape,
            id: info.id,
            value_bytes,
        })
    }

    /// What the map is made of.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The kernel's number for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Pins it, see [`object_pin`].
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        object_pin(self.as_fd(), path)
    }

    fn check(&self, key: &[u8], value: Option<usize>) -> io::Result<()> {
        let keys = self.shape.key_size as usize;
        if key.len() == keys && value.is_none_or(|value| value == self.value_bytes) {
            return Ok(());
        }
        let text = format!(
            "the map has keys of {keys} bytes and values of {}, not {} and {value:?}",
            self.value_bytes,
            key.len()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn element(&self, key: u64, value: u64, flags: u64) -> ElementAttr {
        ElementAttr {
            map_fd: number(self.as_fd()),
            pad: 0,
            key,
            value,
            flags,
        }
    }

    /// The value of `key`; a per-CPU map's values one after the other, each rounded up to 8 bytes.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key, None)?;
        let mut value = vec![0; self.value_bytes];
        let mut attr = self.element(address(key), value.as_mut_ptr().addr() as u64, 0);
        // SAFETY: the key has the map's key size; the kernel writes `value_bytes` to the value.
        found(unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) }).map(|found| found.then_some(value))
    }

    /// Inserts or replaces, see [`ANY`], [`NOEXIST`], [`EXIST`]; E2BIG when the map is full.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.check(key, Some(value.len()))?;
        let mut attr = self.element(address(key), address(value), flags);
        // SAFETY: key and value have the map's sizes; the kernel only reads them.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Puts a map into a map of maps. Replacing one waits until no program uses the old one.
    pub fn update_map(&self, key: &[u8], value: &Self, flags: u64) -> io::Result<()> {
        self.update(key, &number(value.as_fd()).to_ne_bytes(), flags)
    }

    /// Deletes; false when the key wasn't there.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attr = self.element(address(key), 0, 0);
        // SAFETY: the key has the map's key size; the kernel only reads it.
        found(unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) })
    }

    /// The key after `key`, or the first; `None` after the last. In a hash, the first again when `key` is gone.
    pub fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        if let Some(key) = key {
            self.check(key, None)?;
        }
        let mut next = vec![0; self.shape.key_size as usize];
        let mut attr = self.element(key.map_or(0, address), next.as_mut_ptr().addr() as u64, 0);
        // SAFETY: both buffers have the map's key size; a null key asks for the first.
        found(unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) }).map(|found| found.then_some(next))
    }

    /// Every key, in no order. Keys that others insert or delete meanwhile may be missed, and nothing else: a walk that
    /// the kernel restarts, because its position was deleted, ends as well.
    pub fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut seen = std::collections::BTreeSet::new();
        let mut at: Option<Vec<u8>> = None;
        // Each restart takes a deletion by another; a map that others empty and fill forever is cut off here.
        let mut left = (self.shape.max_entries as usize)
            .saturating_mul(2)
            .saturating_add(16);
        while let Some(key) = self.next_key(at.as_deref())? {
            seen.insert(key.clone());
            at = Some(key);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(seen.into_iter().collect())
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Map> for OwnedFd {
    fn from(map: Map) -> Self {
        map.fd
    }
}

/// ENOENT as false.
fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
