// SPDX-License-Identifier: Apache-2.0
//! Whole policies.

use super::{Settings, compile, profile_name};
use crate::plan::{EnforcementPlan, Seccomp};
use serde_json::json;

fn object(kind: &str, metadata: &str, spec: &str) -> crate::PolicyObject {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n"
    );
    crate::parse(&yaml)
        .unwrap_or_else(|e| panic!("{e:?}"))
        .remove(0)
}

fn compiled(kind: &str, metadata: &str, spec: &str) -> Result<EnforcementPlan, Vec<String>> {
    compile(&object(kind, metadata, spec), &Settings::default())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

const TARGET: &str = "target: {kind: Pod, selector: {}}";

#[test]
fn profiles_are_named_as_varmor_names_them() {
    let policy =
        format!("{TARGET}, policy: {{enforcer: AppArmorBPFSeccomp, mode: RuntimeDefault}}");
    let plan =
        compiled("VarmorPolicy", "name: web.v1, namespace: demo", &policy).expect("compiles");
    assert_eq!(plan.profile, "varmor-demo-web.v1");
    assert!(
        plan.apparmor
            .expect("chosen")
            .contains("profile varmor-demo-web.v1 flags=")
    );
    assert!(plan.bpf.expect("chosen").forward.is_some());
    assert_eq!(plan.seccomp, Some(Seccomp::RuntimeDefault));
    let plan = compiled("VarmorClusterPolicy", "name: web", &policy).expect("compiles");
    assert_eq!(plan.profile, "varmor-cluster-varmor-web");
}

#[test]
fn only_chosen_enforcers_have_a_part() {
    let policy = format!("{TARGET}, policy: {{enforcer: Seccomp, mode: AlwaysAllow}}");
    let plan = compiled("VarmorPolicy", "name: a, namespace: b", &policy).expect("compiles");
    assert_eq!((plan.apparmor, plan.bpf), (None, None));
    assert_eq!(
        plan.seccomp,
        Some(Seccomp::Rules(json!({"defaultAction": "SCMP_ACT_ALLOW"})))
    );
}

#[test]
fn seccomp_follows_the_switches() {
    for (allow, audit, expected) in [
        (false, false, Some("SCMP_ACT_ERRNO")),
        (false, true, Some("SCMP_ACT_ERRNO")),
        (true, true, Some("SCMP_ACT_LOG")),
        (true, false, None),
    ] {
        let policy = format!(
            "{TARGET}, policy: {{enforcer: Seccomp, mode: EnhanceProtect, enhanceProtect: {{allowViolations: {allow}, \
             auditViolations: {audit}, hardeningRules: [disallow-create-user-ns], \
             syscallRawRules: [{{names: [mount], action: SCMP_ACT_KILL}}]}}}}"
        );
        let plan = compiled("VarmorPolicy", "name: a, namespace: b", &policy).expect("compiles");
        let Some(Seccomp::Rules(filter)) = plan.seccomp else {
            panic!("no rules")
        };
        let rules = filter["syscalls"].as_array().expect("rules");
        let built_in = rules.iter().find(|rule| rule["names"] == json!(["clone3"]));
        assert_eq!(built_in.and_then(|rule| rule["action"].as_str()), expected);
        assert_eq!(
            rules.last().expect("the raw rule")["action"],
            "SCMP_ACT_KILL"
        );
    }
}

#[test]
fn what_is_wrong_with_an_object_is_said() {
    let good = "policy: {enforcer: BPF, mode: AlwaysAllow}";
    let in_demo = "name: p, namespace: demo";
    let seccomp = |rule: &str| {
        format!(
            "{TARGET}, policy: {{enforcer: Seccomp, mode: EnhanceProtect, enhanceProtect: {{syscallRawRules: [{rule}]}}}}"
        )
    };
    let cases = [
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: AppAmor, mode: AlwaysAllow}}"),
            "spec.policy.enforcer: `AppAmor`",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: BPFNetworkProxy, mode: AlwaysAllow}}"),
            "spec.policy.enforcer: NetworkProxy is not supported",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: BPF, mode: AlwaysAlow}}"),
            "did you mean `AlwaysAllow`?",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: BPF, mode: BehaviorModeling}}"),
            "BehaviorModeling is not supported",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: BPF, mode: DefenseInDepth}}"),
            "DefenseInDepth is not supported",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("{TARGET}, policy: {{enforcer: BPF, mode: EnhanceProtect}}"),
            "spec.policy.enhanceProtect: mode EnhanceProtect needs",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!(
                "{TARGET}, policy: {{enforcer: BPF, mode: AlwaysAllow, networkProxyConfig: {{}}}}"
            ),
            "spec.policy.networkProxyConfig: NetworkProxy is not",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("target: {{kind: Job, name: a}}, {good}"),
            "spec.target.kind: `Job` is no target kind",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("target: {{kind: Pod}}, {good}"),
            "spec.target: nothing is selected",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("target: {{kind: Pod, name: a, selector: {{}}}}, {good}"),
            "spec.target: name and selector exclude",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!("target: {{kind: Pod, name: a, containers: [A]}}, {good}"),
            "spec.target.containers[0]",
        ),
        (
            "VarmorPolicy",
            in_demo,
            format!(
                "target: {{kind: Pod, selector: {{matchExpressions: [{{key: a, operator: In}}]}}}}, {good}"
            ),
            "matchExpressions[0].values: In and NotIn",
        ),
        (
            "VarmorPolicy",
            "name: p",
            format!("{TARGET}, {good}"),
            "metadata.namespace: a VarmorPolicy holds in one namespace",
        ),
        (
            "VarmorClusterPolicy",
            in_demo,
            format!("{TARGET}, {good}"),
            "metadata.namespace: a VarmorClusterPolicy holds in every",
        ),
        (
            "VarmorPolicy",
            "name: 'a { file, }', namespace: demo",
            format!("{TARGET}, {good}"),
            "metadata.name: `a { file, }` is no",
        ),
        (
            "VarmorPolicy",
            "name: p, namespace: '../x'",
            format!("{TARGET}, {good}"),
            "metadata.namespace: `../x` is no",
        ),
        (
            "VarmorPolicy",
            "name: p, namespace: demo, creationTimestamp: yesterday",
            format!("{TARGET}, {good}"),
            "metadata.creationTimestamp: `yesterday`",
        ),
        (
            "VarmorPolicy",
            "name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, namespace: demo",
            format!("{TARGET}, {good}"),
            "shorten the name by 4 bytes",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [], action: SCMP_ACT_ERRNO}"),
            "syscallRawRules[0].names: no system call",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [opne], action: SCMP_ACT_ERRNO}"),
            "names[0]: there is no system call `opne`; did you mean `open`?",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [open], action: SCMP_ACT_ALLOW}"),
            "action: what no rule refuses",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [open], action: SCMP_ACT_ERNO}"),
            "did you mean `SCMP_ACT_ERRNO`?",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [open], action: SCMP_ACT_NOTIFY}"),
            "is no action of a policy",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [open], action: SCMP_ACT_KILL, errnoRet: 1}"),
            "errnoRet: SCMP_ACT_KILL returns no errno",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp("{names: [open], action: SCMP_ACT_ERRNO, errnoRet: 5000}"),
            "errnoRet: 5000 is no errno",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp(
                "{names: [open], action: SCMP_ACT_ERRNO, args: [{index: 6, value: 0, op: SCMP_CMP_EQ}]}",
            ),
            "args[0].index: there is no argument 6",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp(
                "{names: [open], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 0, op: EQ}]}",
            ),
            "args[0].op: `EQ` is no comparison",
        ),
        (
            "VarmorPolicy",
            in_demo,
            seccomp(
                "{names: [open], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 1, valueTwo: 2, op: SCMP_CMP_MASKED_EQ}]}",
            ),
            "bits outside the mask",
        ),
    ];
    for (kind, metadata, spec, expected) in cases {
        let errors = compiled(kind, metadata, &spec).expect_err(expected);
        assert!(
            errors.iter().any(|e| e.contains(expected)),
            "{expected}: {errors:?}"
        );
    }
}

#[test]
fn rules_out_of_force_are_checked_and_not_loaded() {
    let with = |enforcer: &str, rules: &str| {
        let spec = format!(
            "{TARGET}, policy: {{enforcer: {enforcer}, mode: RuntimeDefault, enhanceProtect: {{{rules}}}}}"
        );
        compiled("VarmorPolicy", "name: p, namespace: demo", &spec)
    };
    let plain = with("AppArmor", "").expect("compiles");
    // Rules for other enforcers may wait, too.
    let waiting = "hardeningRules: [disallow-umount], bpfRawRules: {ptrace: {permissions: [all], qualifiers: [deny]}}";
    assert_eq!(with("AppArmor", waiting), Ok(plain));
    let errors = with("AppArmor", "hardeningRules: [disallow-umont]").expect_err("refused");
    assert!(
        errors[0].contains("did you mean `disallow-umount`?"),
        "{errors:?}"
    );
}

#[test]
fn the_cluster_namespace_is_checked_too() {
    let object = object(
        "VarmorClusterPolicy",
        "name: p",
        &format!("{TARGET}, policy: {{enforcer: BPF, mode: AlwaysAllow}}"),
    );
    let settings = Settings {
        cluster_namespace: "a b".to_owned(),
        ..Settings::default()
    };
    assert!(
        compile(&object, &settings).expect_err("refused")[0]
            .message
            .contains("cluster namespace")
    );
}

#[test]
fn targets_that_need_the_api_server_are_named() {
    let spec = "target: {kind: Deployment, name: web}, policy: {enforcer: BPF, mode: AlwaysAllow}";
    let object = object("VarmorPolicy", "name: p, namespace: demo", spec);
    assert!(compile(&object, &Settings::default()).is_ok());
    let errors = crate::validate::for_node(&object).expect_err("refused");
    assert!(
        errors[0]
            .to_string()
            .contains("spec.target.kind: `Deployment` cannot be resolved"),
        "{errors:?}"
    );
}

#[test]
fn profiles_of_one_name_are_found() {
    let spec = format!("{TARGET}, policy: {{enforcer: BPF, mode: AlwaysAllow}}");
    let objects = [
        object("VarmorPolicy", "name: c, namespace: a-b", &spec),
        object("VarmorPolicy", "name: b-c, namespace: a", &spec),
        object("VarmorPolicy", "name: varmor-x, namespace: cluster", &spec),
        object("VarmorClusterPolicy", "name: x", &spec),
    ];
    let errors = profile_name::collisions(&objects, &Settings::default());
    let named: Vec<_> = errors.iter().map(|e| e.object.to_string()).collect();
    assert_eq!(named, ["VarmorPolicy a/b-c", "VarmorClusterPolicy x"]);
}

#[test]
fn hostile_policies_end_soon() {
    let in_demo = "name: p, namespace: demo";
    let enhance = |enforcer: &str, rules: &str| {
        format!(
            "{TARGET}, policy: {{enforcer: {enforcer}, mode: EnhanceProtect, enhanceProtect: {{{rules}}}}}"
        )
    };
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        (0..count).map(item).collect::<Vec<_>>().join(", ")
    };
    let braces = "{a,b,c,d}".repeat(4);
    let cases = [
        enhance(
            "BPF",
            &format!(
                "hardeningRules: [{}]",
                list(40_000, &|i| format!("disable-cap-{i}"))
            ),
        ),
        enhance(
            "BPF",
            &format!(
                "bpfRawRules: {{files: [{}]}}",
                list(8_000, &|i| {
                    format!(
                        "{{qualifiers: [deny], permissions: [r], pattern: '/{braces}/{i}/xxxxxxxxxxxxxxxxxx'}}"
                    )
                })
            ),
        ),
        enhance(
            "AppArmor",
            &format!(
                "appArmorRawRules: [{{rules: '{}'}}]",
                "/a r,".repeat(10_000)
            ),
        ),
        enhance(
            "AppArmor",
            &format!(
                "appArmorRawRules: [{{rules: 'file,', targets: [{}]}}]",
                list(40_000, &|i| format!("/bin/{i}"))
            ),
        ),
        enhance(
            "Seccomp",
            &format!(
                "syscallRawRules: [{{names: [{}], action: SCMP_ACT_ERRNO}}]",
                list(60_000, &|i| format!("opne{i}"))
            ),
        ),
        enhance(
            "Seccomp",
            &format!(
                "syscallRawRules: [{}]",
                list(9_000, &|i| format!(
                    "{{names: [read], action: SCMP_ACT_ERRNO, args: [{{index: 0, value: {i}, op: SCMP_CMP_NE}}]}}"
                ))
            ),
        ),
        enhance(
            "BPF",
            &format!(
                "bpfRawRules: {{network: {{egress: {{toDestinations: [{}]}}}}}}",
                list(9_000, &|i| {
                    format!(
                        "{{qualifiers: [deny], cidr: 10.{}.{}.0/{}, ports: [{{port: {}}}]}}",
                        i / 256,
                        i % 256,
                        8 + i % 20,
                        1 + i * 7
                    )
                })
            ),
        ),
    ];
    for spec in cases {
        let started = processor_seconds();
        let errors = compiled("VarmorPolicy", in_demo, &spec);
        // The last one is large and right; the others are refused.
        if !spec.contains("toDestinations") {
            let errors = errors.expect_err("refused");
            assert!(!errors.is_empty() && errors.len() <= 64, "{}", errors.len());
        }
        // Milliseconds in a release build; the limit is for a debug build.
        let took = processor_seconds() - started;
        assert!(took < 20, "{took} s: {}", &spec[..200]);
    }
}

/// What this thread has used: a busy machine must not fail a test.
fn processor_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec
}
