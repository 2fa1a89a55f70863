//! Loads the BPF LSM programs, pins them so that they outlive this process, and fills their tables.

pub mod automata;
pub mod prefixes;
pub mod profile;
pub mod violation;
