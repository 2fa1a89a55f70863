// SPDX-License-Identifier: Apache-2.0
//! docs/conformance.md names every difference that the cases name, and no other.

use std::path::Path;

use varmor_conformance::{case, report};

#[test]
fn the_differences_are_those_of_the_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, cases) = case::load(folder).unwrap();
    let document = std::fs::read_to_string(folder.join("../../docs/conformance.md")).unwrap();
    assert!(
        document == report::with_cases(&document, &cases),
        "docs/conformance.md is not current: target/release/conformance differences"
    );
}
