// SPDX-License-Identifier: Apache-2.0
//! The manual in docs/ is what the table says.

#[test]
fn the_manual_of_the_rules_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
    let text = std::fs::read_to_string(path).expect("docs/rules.md");
    assert!(
        text == varmor_policy::rules::markdown(),
        "docs/rules.md is out of date; write it anew:\n  cargo run -p varmor-policy --bin varmor-policy-docs > docs/rules.md"
    );
}
