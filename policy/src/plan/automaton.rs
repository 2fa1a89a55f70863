// SPDX-License-Identifier: Apache-2.0
//! A deterministic automaton over bytes, in the form in which the kernel walks it.

/// What a path's rules say: bit masks of `PERM_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathVerdict {
    /// Permissions that are refused.
    pub deny: u16,
    /// Permissions whose use is reported; with `deny` also set, the refusal is reported.
    pub audit: u16,
    /// Permissions that an allow list grants; only read for profiles that deny by default.
    pub allow: u16,
    /// Number of the set of protected subtrees that this path is an ancestor of; 0 is none. Equal numbers mean equal sets.
    pub ancestors: u16,
}

/// Reading a file's content.
pub const PERM_READ: u16 = 1;
/// Changing a file, its attributes, or its entry in a directory.
pub const PERM_WRITE: u16 = 2;
/// Opening for append only.
pub const PERM_APPEND: u16 = 4;
/// Executing a file, or mapping it executable.
pub const PERM_EXEC: u16 = 8;

/// A dense automaton. State 0 is dead: nothing that follows can match.
///
/// The next state of `s` on byte `b` is `transitions[(s << stride_shift) | classes[b]]`; the verdict at the end of the
/// input is `verdicts[accept[s]]`, where `verdicts[0]` is the empty verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Automaton {
    /// Byte to equivalence class.
    pub classes: [u8; 256],
    /// log2 of the length of a state's row.
    pub stride_shift: u8,
    /// State before the first byte.
    pub start: u16,
    /// Rows of next states, `states << stride_shift` entries.
    pub transitions: Vec<u16>,
    /// One entry a state: index into `verdicts`.
    pub accept: Vec<u16>,
    /// Distinct verdicts; the first is empty.
    pub verdicts: Vec<PathVerdict>,
}

impl Automaton {
    /// The verdict for a whole input, as the kernel computes it.
    pub fn run(&self, input: impl IntoIterator<Item = u8>) -> PathVerdict {
        let mut state = self.start;
        for byte in input {
            if state == 0 {
                break;
            }
            let class = usize::from(self.classes[usize::from(byte)]);
            state = self.transitions[(usize::from(state) << self.stride_shift) | class];
        }
        self.verdicts[usize::from(self.accept[usize::from(state)])]
    }

    /// The size of its tables in the kernel.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.classes)
            + size_of_val(&self.transitions[..])
            + size_of_val(&self.accept[..])
            + size_of_val(&self.verdicts[..])
    }

    /// Every verdict that some input which begins with `start` has, each once or more often.
    pub fn verdicts_after(&self, start: &[u8]) -> Vec<PathVerdict> {
        let next = |state: u16, byte: u8| {
            let class = usize::from(self.classes[usize::from(byte)]);
            self.transitions[(usize::from(state) << self.stride_shift) | class]
        };
        let first = start
            .iter()
            .fold(self.start, |state, byte| next(state, *byte));
        let mut reached = vec![false; self.accept.len()];
        reached[usize::from(first)] = true;
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            let row = usize::from(state) << self.stride_shift;
            for next in &self.transitions[row..row + (1 << self.stride_shift)] {
                if !std::mem::replace(&mut reached[usize::from(*next)], true) {
                    open.push(*next);
                }
            }
        }
        let accepted = self
            .accept
            .iter()
            .zip(reached)
            .filter(|(_, reached)| *reached);
        accepted
            .map(|(verdict, _)| self.verdicts[usize::from(*verdict)])
            .collect()
    }
}
