// SPDX-License-Identifier: Apache-2.0
//! `varmorctl validate` as users run it.

mod ctl;

use ctl::{json, policy, run, run_with_stdin};

#[test]
fn right_files_are_valid() {
    let result = run(&["validate", &policy("web.yaml"), &policy("cluster.yaml")]);
    assert_eq!(result.code, 0, "{result:?}");
    for expected in [
        "web.yaml: VarmorPolicy demo/web: valid, profile varmor-demo-web\n",
        "cluster.yaml: VarmorClusterPolicy baseline: valid, profile varmor-cluster-varmor-baseline\n",
    ] {
        assert!(result.out.contains(expected), "{result:?}");
    }
    let result = run(&[
        "validate",
        "--cluster-namespace",
        "security",
        &policy("cluster.yaml"),
    ]);
    assert!(
        result
            .out
            .contains("profile varmor-cluster-security-observed")
    );
}

#[test]
fn every_error_has_its_file_line_and_field() {
    let file = policy("wrong.yaml");
    let result = run(&["validate", &file]);
    assert_eq!(result.code, 1);
    let enhance = "spec.policy.enhanceProtect";
    let places = [
        "7:spec.target: ".to_owned(),
        format!(
            "17:{enhance}.hardeningRules[1]: there is no rule `disallow-create-user-n`; did you mean"
        ),
        format!("21:{enhance}.appArmorRawRules[0].rules: "),
        format!("24:{enhance}.bpfRawRules.files[0].pattern: "),
        format!("28:{enhance}.bpfRawRules.network.egress.toDestinations[0].cidr: "),
        format!("30:{enhance}.syscallRawRules: "),
        "44:spec.policy.enhanceProtec: unknown field".to_owned(),
    ];
    let lines: Vec<_> = result.out.lines().collect();
    assert_eq!(lines.len(), places.len(), "{}", result.out);
    for (line, place) in lines.iter().zip(places) {
        assert!(line.starts_with(&format!("{file}:{place}")), "{line}");
    }
}

#[test]
fn programs_get_json() {
    let result = run(&[
        "validate",
        "-o",
        "json",
        &policy("wrong.yaml"),
        &policy("web.yaml"),
    ]);
    assert_eq!(result.code, 1);
    let report = json(&result.out);
    assert_eq!(report["valid"], false);
    let error = &report["files"][0]["errors"][1];
    assert_eq!(error["line"], 17);
    assert_eq!(error["column"], 9);
    assert_eq!(error["object"]["name"], "wrong");
    assert_eq!(
        error["field"],
        "spec.policy.enhanceProtect.hardeningRules[1]"
    );
    assert_eq!(report["files"][1]["errors"], serde_json::json!([]));
    assert_eq!(
        report["files"][1]["objects"][0]["profile"],
        "varmor-demo-web"
    );
}

#[test]
fn the_standard_input_is_a_file_too() {
    let text = std::fs::read_to_string(policy("cluster.yaml")).expect("is there");
    let result = run_with_stdin(&["validate", "-"], &text);
    assert_eq!(result.code, 0, "{result:?}");
    let result = run_with_stdin(&["validate", "--node", "-"], &text);
    assert_eq!(result.code, 1);
    assert!(
        result
            .out
            .starts_with("<stdin>:22:spec.target.kind: `Deployment` cannot be resolved"),
        "{}",
        result.out
    );
    let result = run_with_stdin(&["validate", "-"], "a: [}\n");
    assert_eq!(result.code, 1);
    assert!(result.out.starts_with("<stdin>:1: "), "{}", result.out);
    let result = run_with_stdin(&["validate", "-"], "# nothing\n");
    assert_eq!(
        (result.code, &*result.out),
        (0, "<stdin>: no policy in it\n")
    );
}

#[test]
fn what_two_files_disagree_on_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let simple = |kind: &str, metadata: &str| {
        format!(
            "apiVersion: crd.varmor.org/v1beta1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec:\n  target: {{kind: Pod, \
             name: a}}\n  policy: {{enforcer: BPF, mode: AlwaysAllow}}\n"
        )
    };
    let files: Vec<String> = [
        simple("VarmorPolicy", "name: b-c, namespace: a"),
        simple("VarmorPolicy", "name: b-c, namespace: a"),
        simple("VarmorPolicy", "name: c, namespace: a-b"),
    ]
    .iter()
    .enumerate()
    .map(|(index, text)| {
        let path = directory.path().join(format!("{index}.yaml"));
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    })
    .collect();
    let mut arguments = vec!["validate"];
    arguments.extend(files.iter().map(String::as_str));
    let result = run(&arguments);
    assert_eq!(result.code, 1);
    let again = format!(
        "{}:3:metadata.name: {} defines this object too",
        files[1], files[0]
    );
    let profile = format!(
        "{}:3:metadata.name: its profile would be named `varmor-a-b-c`",
        files[2]
    );
    assert!(result.out.contains(&again), "{}", result.out);
    assert!(result.out.contains(&profile), "{}", result.out);
}

#[test]
fn changes_of_objects_in_force_are_checked() {
    let directory = tempfile::tempdir().expect("a directory");
    let changed = directory.path().join("changed.yaml");
    let text = std::fs::read_to_string(policy("web.yaml")).expect("is there");
    let text = text
        .replace("AppArmorBPFSeccomp", "AppArmorSeccomp")
        .replace("app: web", "app: api");
    let text = text.replace("mode: EnhanceProtect", "mode: RuntimeDefault");
    std::fs::write(&changed, text).expect("written");
    let changed = changed.to_str().expect("UTF-8");
    assert_eq!(run(&["validate", changed]).code, 0);
    let result = run(&["validate", "--previous", &policy("web.yaml"), changed]);
    assert_eq!(result.code, 1);
    let lines: Vec<_> = result.out.lines().collect();
    assert_eq!(lines.len(), 1, "{}", result.out);
    assert!(
        lines[0].contains(":8:spec.target: whom a policy selects cannot change"),
        "{}",
        lines[0]
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let result = run(&["validate", "/nowhere/a.yaml"]);
    assert_eq!(result.code, 1);
    assert_eq!(
        result.err,
        "varmorctl: /nowhere/a.yaml cannot be read: No such file or directory (os error 2)\n"
    );
    let result = run_with_stdin(&["validate", "-"], &" ".repeat((1 << 20) + 1));
    assert_eq!(result.code, 1);
    assert!(result.out.contains("split it"), "{}", result.out);
    // Wrong use of the program is told apart from wrong files.
    assert_eq!(run(&["validate"]).code, 2);
}

#[test]
fn shells_and_manuals() {
    for shell in ["bash", "zsh", "fish"] {
        let result = run(&["completions", shell]);
        assert!(
            result.code == 0 && result.out.contains("validate"),
            "{shell}"
        );
    }
    assert!(run(&["man"]).out.contains(".SH SUBCOMMANDS"));
    assert!(
        run(&["man", "validate"])
            .out
            .contains("varmorctl\\-validate")
    );
    let result = run(&["man", "valid"]);
    assert_eq!(result.code, 1);
    assert!(result.err.contains("there is no command `valid`"));
}
