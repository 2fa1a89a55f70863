// SPDX-License-Identifier: Apache-2.0
//! A program that panics must refuse, with a sentence, and not die by a signal that somebody might read otherwise.

use std::process::Command;

const CHILD: &str = "VARMOR_TEST_PANICS";

#[test]
fn a_panic_ends_with_status_1_and_one_line() {
    if std::env::var_os(CHILD).is_some() {
        varmor_oci_hook::refuse_on_panic("the-program");
        panic!("first line\nsecond line");
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_panic_ends_with_status_1_and_one_line",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    // A failed test would be 101.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(
        said.starts_with("the-program refused the container: internal error: ")
            && said.contains("second line")
    );
}
