// SPDX-License-Identifier: Apache-2.0
//! Every seed of the fuzzers, among them what they once found, in an ordinary test.

use std::path::Path;

use varmor_fuzz_subjects::SUBJECTS;

#[test]
fn every_seed_holds_and_each_subject_accepts_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for (name, subject) in SUBJECTS {
        let mut accepted = 0;
        for entry in std::fs::read_dir(folder.join(name)).unwrap() {
            let path = entry.unwrap().path();
            // Shown when the subject panics.
            println!("{}", path.display());
            accepted += usize::from(subject(&std::fs::read(&path).unwrap()));
        }
        assert!(accepted > 0, "{name}: no seed is accepted");
    }
}

#[test]
fn no_folder_of_seeds_is_without_a_subject() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            SUBJECTS.iter().any(|(subject, _)| name == *subject),
            "{name:?}"
        );
    }
}
