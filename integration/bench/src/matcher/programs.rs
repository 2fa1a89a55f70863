// SPDX-License-Identifier: Apache-2.0
//! The compiled programs, loaded, and their maps.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use varmor_bpf_abi::sys::{ANY, Map};

/// Object code made by the build script.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/matcher.bpf.o"));

/// Maps that are filled from here.
const MAPS: [&str; 8] = [
    "containers",
    "profiles",
    "automata_s",
    "automata_m",
    "automata_l",
    "automata_xl",
    "linear_rules",
    "request",
];

/// A program of `kernel/matcher.bpf.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Does nothing but find the path's two pointers.
    Nothing,
    /// The check that the LSM programs make.
    Automata,
    /// The list.
    Linear,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Automata => "automata",
            Self::Linear => "linear",
        }
    }
}

/// The three programs.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    maps: Vec<(&'static str, Map)>,
}

impl Programs {
    /// Loads them, with their maps pinned in `pins`, a directory of a BPF file system. `object` is another build of
    /// `kernel/matcher.bpf.c`, in place of the one in this program.
    ///
    /// # Errors
    ///
    /// Fails where the kernel refuses them, with what its verifier says.
    pub fn load(pins: &Path, object: Option<&Path>) -> Result<Self> {
        std::fs::create_dir_all(pins).with_context(|| format!("making {}", pins.display()))?;
        let mut loader = EbpfLoader::new();
        loader.allow_unsupported_maps();
        for map in MAPS {
            loader.map_pin_path(map, pins.join(map));
        }
        let mut ebpf = match object {
            Some(file) => loader.load_file(file),
            None => loader.load(OBJECT),
        }
        .context("loading the BPF object")?;
        for program in [Program::Nothing, Program::Automata, Program::Linear] {
            classifier(&mut ebpf, program)?
                .load()
                .with_context(|| format!("loading the BPF program {}", program.name()))?;
        }
        let open = |name| {
            Map::open(&pins.join(name))
                .with_context(|| format!("opening the BPF map {name}"))
                .map(|map| (name, map))
        };
        let maps = MAPS.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Self { ebpf, maps })
    }

    /// One of the maps.
    ///
    /// # Panics
    ///
    /// Panics when there is none of that name.
    pub fn map(&self, name: &str) -> &Map {
        self.maps
            .iter()
            .find_map(|(known, map)| (*known == name).then_some(map))
            .expect("one of MAPS")
    }

    /// Runs a program `repeat` times on the path of the working directory and tells what a run takes at the mean.
    ///
    /// # Errors
    ///
    /// Fails when a run does, and when the program does not allow the path: it has to do the whole search.
    pub fn run(&mut self, program: Program, request: Request, repeat: u32) -> Result<Duration> {
        self.map("request")
            .update(&0_u32.to_ne_bytes(), &request.to_bytes(), ANY)
            .context("writing the request")?;
        let packet = [0_u8; 64];
        let options = TestRunOptions {
            data_in: Some(&packet),
            repeat,
            ..TestRunOptions::default()
        };
        let result = classifier(&mut self.ebpf, program)?
            .test_run(options)
            .with_context(|| format!("running the BPF program {}", program.name()))?;
        ensure!(
            result.return_value == 0,
            "the program {} does not allow the path: {}",
            program.name(),
            result.return_value
        );
        Ok(result.duration)
    }
}

fn classifier(ebpf: &mut Ebpf, program: Program) -> Result<&mut SchedClassifier> {
    let name = program.name();
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("the program {name} is of another type"))
}

/// What a run looks up; `struct request` of `kernel/matcher.bpf.c`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Container key.
    pub container: u64,
    /// Number of the set of linear rules.
    pub set: u32,
    /// Rules of the set that are looked at.
    pub count: u32,
}

impl Request {
    fn to_bytes(self) -> Vec<u8> {
        [
            &self.container.to_ne_bytes()[..],
            &self.set.to_ne_bytes(),
            &self.count.to_ne_bytes(),
        ]
        .concat()
    }
}
