// SPDX-License-Identifier: Apache-2.0
//! Prints docs/rules.md.

fn main() {
    print!("{}", varmor_policy::rules::markdown());
}
