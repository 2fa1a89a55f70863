// SPDX-License-Identifier: Apache-2.0
//! Running the program.

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

/// Path of a sample policy.
pub fn policy(name: &str) -> String {
    format!("{}/tests/policies/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs the program.
pub fn run(arguments: &[&str]) -> Ran {
    run_with_stdin(arguments, "")
}

/// Runs the program with a text on its standard input.
pub fn run_with_stdin(arguments: &[&str], stdin: &str) -> Ran {
    let output = assert_cmd::Command::cargo_bin("varmorctl")
        .expect("is built")
        .args(arguments)
        .write_stdin(stdin)
        .output()
        .expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Reads JSON.
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
