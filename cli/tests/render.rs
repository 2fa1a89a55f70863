// SPDX-License-Identifier: Apache-2.0
//! `varmorctl render`: what would be loaded.

mod ctl;

use ctl::{json, policy, run, run_with_stdin};
use std::path::Path;
use std::process::Command;

#[test]
fn the_apparmor_text_is_what_the_parser_takes() {
    let result = run(&["render", &policy("web.yaml"), "--enforcer", "apparmor"]);
    assert_eq!(result.code, 0, "{}", result.err);
    for expected in [
        "profile varmor-demo-web flags=",
        "audit deny /run/tls/*.key r,",
        "/bin/sh cx -> child_0,",
        "profile child_0 ",
    ] {
        assert!(result.out.contains(expected), "{expected}: {}", result.out);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("profile");
    std::fs::write(&file, &result.out).expect("written");
    let parser = Path::new("/usr/sbin/apparmor_parser");
    let output = Command::new(parser)
        .args([
            "--kernel-features",
            "/etc/apparmor.d/abi/3.0",
            "-QKT",
            "--quiet",
        ])
        .arg(&file)
        .output()
        .expect("apparmor_parser (package apparmor) is needed for this test");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_seccomp_part_and_the_merged_filter() {
    let file = policy("web.yaml");
    let result = run(&["render", &file, "--enforcer", "seccomp"]);
    let part = json(&result.out);
    assert_eq!(part["defaultAction"], "SCMP_ACT_ALLOW");
    assert!(result.out.contains("process_vm_readv"));

    let directory = tempfile::tempdir().expect("a directory");
    let own = directory.path().join("config.json");
    let spec = r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "ptrace"], "action": "SCMP_ACT_ALLOW"}]}}}"#;
    std::fs::write(&own, spec).expect("written");
    let own = own.to_str().expect("UTF-8");
    let result = run(&["render", &file, "--enforcer", "seccomp", "--own", own]);
    let merged = json(&result.out);
    assert_eq!(merged["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed = merged["syscalls"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names: Vec<_> = allowed
        .flat_map(|rule| rule["names"].as_array().expect("names"))
        .collect();
    assert!(
        names.contains(&&serde_json::json!("read"))
            && !names.contains(&&serde_json::json!("ptrace")),
        "{names:?}"
    );

    // Mode RuntimeDefault: the runtime's list, which depends on capabilities.
    let cluster = policy("cluster.yaml");
    let default = [
        "render",
        &cluster,
        "--policy",
        "baseline",
        "--enforcer",
        "seccomp",
    ];
    let few = run(&default).out;
    let many = run(&[&default[..], &["--capability", "CAP_SYS_ADMIN"]].concat()).out;
    assert!(!few.contains("\"fsmount\"") && many.contains("\"fsmount\""));
}

#[test]
fn the_bpf_tables_are_readable() {
    let file = policy("web.yaml");
    let result = run(&["render", &file, "--enforcer", "bpf"]);
    for expected in [
        "profile varmor-demo-web\n",
        "  /etc/shadow ",
        "refuse and report read,write,append  (bpfRawRules.files[0])",
        "report read  (bpfRawRules.files[1])",
        "refuse exec  (bpfRawRules.processes[0])",
        "  10.0.0.0/8\n    port 22: refused and reported\n    ports 8000 to 8999: refused and reported\n",
        "the pod's own addresses\n    every port: reported\n",
        "  packet, types\n    refused and reported: all\n",
        "user namespaces: refused and reported",
        " states, ",
    ] {
        assert!(result.out.contains(expected), "{expected}\n{}", result.out);
    }
    let tables = json(&run(&["render", "-o", "json", &file, "--enforcer", "bpf"]).out);
    assert!(
        tables["paths"]["forward"]["states"]
            .as_u64()
            .expect("a number")
            > 20
    );
    let rules = tables["paths"]["rules"].as_array().expect("rules");
    let shadow = rules
        .iter()
        .find(|rule| rule["pattern"] == "/etc/shadow")
        .expect("is there");
    assert_eq!(
        shadow["refused"],
        serde_json::json!(["read", "write", "append"])
    );
    assert_eq!(
        shadow["field"],
        "spec.policy.enhanceProtect.bpfRawRules.files[0]"
    );
}

#[test]
fn what_cannot_be_rendered_is_said() {
    let cluster = policy("cluster.yaml");
    for (arguments, expected) in [
        (
            &["--enforcer", "bpf"][..],
            "there are several policies; choose one by --policy: baseline, observed",
        ),
        (
            &["--enforcer", "bpf", "--policy", "x"],
            "there is no policy x; there are baseline, observed",
        ),
        (
            &["--enforcer", "seccomp", "--policy", "observed"],
            "observed does not use Seccomp: its enforcer is `bpf`",
        ),
    ] {
        let result = run(&[&["render", &cluster], arguments].concat());
        assert_eq!(result.code, 1);
        assert!(result.err.contains(expected), "{}", result.err);
    }
    let result = run(&["render", &policy("wrong.yaml"), "--enforcer", "bpf"]);
    assert!(
        result.code == 1 && result.err.contains("line 17, column 9"),
        "{}",
        result.err
    );
    let result = run_with_stdin(&["render", "-", "--enforcer", "bpf"], "# nothing\n");
    assert!(
        result.err.contains("there is no policy in -"),
        "{}",
        result.err
    );
}
