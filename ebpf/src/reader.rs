// SPDX-License-Identifier: Apache-2.0
//! Reading the programs' reports.

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use aya::maps::{Map, MapData, MapError, RingBuf};
use varmor_bpf_abi::pins;

use crate::error::Error;
use crate::violation::{DecodeError, Violation, decode};

/// The consumer of the ring buffer. There must be one only: readers share the position.
pub struct ViolationReader(RingBuf<MapData>);

impl ViolationReader {
    /// Opens the ring buffer pinned in `dir`, at the first report that nobody has read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(pins::VIOLATIONS);
        let open = || -> Result<_, MapError> {
            RingBuf::try_from(Map::from_map_data(MapData::from_pin(&path)?)?)
        };
        match open() {
            Ok(ring) => Ok(Self(ring)),
            Err(source) => Err(Error::Violations {
                path,
                source: Box::new(source),
            }),
        }
    }

    /// The next report; `None` when there is none yet: wait until the descriptor is readable.
    ///
    /// A record that can't be decoded is skipped by the next call.
    pub fn next_violation(&mut self) -> Option<Result<Violation, DecodeError>> {
        self.0.next().map(|record| decode(&record))
    }
}

impl std::fmt::Debug for ViolationReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ViolationReader")
            .field(&self.as_raw_fd())
            .finish()
    }
}

impl AsRawFd for ViolationReader {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
