// SPDX-License-Identifier: Apache-2.0
//! `varmorctl explain`: who says what.

mod ctl;

use ctl::{json, policy, run};

#[test]
fn each_enforcer_names_the_rule_and_its_line() {
    let file = policy("web.yaml");
    let result = run(&[
        "explain",
        &file,
        "--container",
        "demo/web-1/main",
        "--labels",
        "app=web",
        "--action",
        "open:/etc/shadow:w",
        "--action",
        "cap:sys_admin",
        "--action",
        "open:/etc/hosts:r",
    ]);
    assert_eq!(result.code, 0, "{}", result.err);
    assert!(
        result
            .out
            .starts_with("demo/web-1/main: VarmorPolicy demo/web, profile varmor-demo-web\n"),
        "{}",
        result.out
    );
    for expected in [
        "\nopen:/etc/shadow:w: refused\n  AppArmor  allowed\n  BPF       refused, reported\n"
            .to_owned(),
        format!("{file}:31 spec.policy.enhanceProtect.bpfRawRules.files[0] /etc/shadow\n"),
        format!("{file}:19 spec.policy.enhanceProtect.hardeningRules[0] disable-cap-privileged\n"),
        "              audit deny capability dac_read_search".to_owned(),
        "\nopen:/etc/hosts:r: allowed\n".to_owned(),
        "Seccomp   not asked".to_owned(),
    ] {
        assert!(result.out.contains(&expected), "{expected}\n{}", result.out);
    }
}

#[test]
fn programs_get_json() {
    let result = run(&[
        "explain",
        "-o",
        "json",
        &policy("web.yaml"),
        "--executable",
        "/bin/sh",
        "--action",
        "open:/etc/passwd:w",
        "--action",
        "syscall:personality",
    ]);
    let answer = json(&result.out);
    assert_eq!(answer["profile"], "varmor-demo-web");
    let first = &answer["actions"][0];
    assert_eq!(
        (&first["action"], &first["decision"]),
        (&"open:/etc/passwd:w".into(), &"refused".into())
    );
    let apparmor = &first["enforcers"][0];
    assert_eq!(apparmor["causes"][0]["rule"], "disable-write-etc");
    assert_eq!(apparmor["causes"][0]["loaded"][0], "audit deny /etc/** wl");
    let second = &answer["actions"][1];
    assert_eq!(second["decision"], "depends");
    assert_eq!(
        second["enforcers"][2]["refusedIf"][0],
        "its arguments are those of a rule"
    );
}

#[test]
fn which_policy_holds() {
    let (web, cluster) = (policy("web.yaml"), policy("cluster.yaml"));
    let ask = |arguments: &[&str]| {
        let result = run(&[&["explain", &web, &cluster, "--container"], arguments].concat());
        assert_eq!(result.code, 0, "{}", result.err);
        result.out
    };
    for (arguments, expected) in [
        // A cluster policy comes first.
        (
            &["demo/web-1/main", "--labels", "app=web"][..],
            "VarmorClusterPolicy baseline, profile varmor-cluster-varmor-baseline",
        ),
        (
            &["demo/web-1/main", "--labels", "app=web,tier=system"],
            "VarmorPolicy demo/web, profile varmor-demo-web",
        ),
        (
            &["other/web-1/main", "--labels", "app=web,tier=system"],
            "not protected: no policy selects it",
        ),
        (
            &["demo/x/main", "--labels", "sandbox.varmor.org/enable=false"],
            "not protected: the pod has not opted in",
        ),
        (
            &[
                "demo/x/main",
                "--annotations",
                "container.bpf.security.beta.varmor.org/main=unconfined,\
                 container.apparmor.security.beta.varmor.org/main=unconfined,\
                 container.seccomp.security.beta.varmor.org/main=unconfined",
            ],
            "not protected: VarmorClusterPolicy baseline would hold, but annotations take every enforcer away",
        ),
    ] {
        let out = ask(arguments);
        assert!(out.contains(expected), "{expected}\n{out}");
        assert!(
            out.contains("VarmorClusterPolicy observed is for a Deployment"),
            "{out}"
        );
    }
    let out = ask(&[
        "demo/x/main",
        "--annotations",
        "container.bpf.security.beta.varmor.org/main=unconfined",
        "--action",
        "open:/proc/kcore:r",
    ]);
    assert!(
        out.contains("AppArmor  refused") && !out.contains("BPF "),
        "{out}"
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let web = policy("web.yaml");
    for (arguments, expected) in [
        (
            &["--action", "opne:/x:r"][..],
            "`opne:/x:r` is no action: `opne` begins none; did you mean `open`?",
        ),
        (
            &["--container", "demo/web"],
            "write namespace/pod/container",
        ),
        (
            &["--container", "a/b/c", "--labels", "x"],
            "`x` is no pair; write key=value",
        ),
        (
            &["--container", "a/b/c", "--opt-in-label", "x"],
            "--opt-in-label: `x` is no label",
        ),
        (
            &["--policy", "demo/other"],
            "there is no policy demo/other; there are demo/web",
        ),
    ] {
        let result = run(&[&["explain", &web], arguments].concat());
        assert_eq!(result.code, 1, "{arguments:?}");
        assert!(result.err.contains(expected), "{expected}\n{}", result.err);
    }
}
