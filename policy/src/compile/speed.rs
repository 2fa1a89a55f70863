//! How long a large policy takes to compile.

use super::{ServiceAddresses, ServiceName, Settings, compile};
use crate::rules::{self, BpfPart, Group};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Every built-in rule, and 1,000 file rules.
fn policy(pattern: &dyn Fn(usize) -> String) -> (crate::PolicyObject, Settings) {
    let names = |group| {
        let rules = rules::all().filter(|rule| rule.group == group);
        rules.map(|rule| rule.name).collect::<Vec<_>>().join(", ")
    };
    let mut yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy:\n    enforcer: AppArmorBPFSeccomp\n    mode: EnhanceProtect\n    \
         enhanceProtect:\n      hardeningRules: [{}]\n      attackProtectionRules: [{{rules: [{}]}}]\n      \
         vulMitigationRules: [{}]\n      bpfRawRules:\n        files:\n",
        names(Group::Hardening),
        names(Group::Attack),
        names(Group::Vulnerability)
    );
    for n in 0..1000 {
        writeln!(
            yaml,
            "        - {{qualifiers: [deny, audit], permissions: [read, write], pattern: '{}'}}",
            pattern(n)
        )
        .expect("to a text");
    }
    let services: ServiceAddresses = rules::all()
        .flat_map(|rule| rule.bpf)
        .filter_map(|part| match part {
            BpfPart::Service { namespace, name } => {
                Some((ServiceName::new(*namespace, *name), Vec::new()))
            }
            _ => None,
        })
        .collect();
    let settings = Settings {
        services,
        ..Settings::default()
    };
    let object = crate::parse(&yaml)
        .unwrap_or_else(|e| panic!("{e:?}"))
        .remove(0);
    (object, settings)
}

#[test]
fn every_built_in_rule_and_a_thousand_custom_ones_compile_soon() {
    let shapes: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("beginnings", &|n| format!("/opt/apps/{n:04}/secret/**")),
        ("ends", &|n| format!("/**/private-{n:04}.key")),
        ("directories anywhere", &|n| format!("/**/dir{n:04}/**")),
        ("all of these", &|n| match n % 3 {
            0 => format!("/opt/apps/{n:04}/secret/**"),
            1 => format!("/**/private-{n:04}.key"),
            _ => format!("/**/dir{n:04}/**"),
        }),
    ];
    for (name, pattern) in shapes {
        let (object, settings) = policy(pattern);
        let started = Instant::now();
        let plan = compile(&object, &settings).unwrap_or_else(|e| panic!("{e:?}"));
        let elapsed = started.elapsed();
        println!("{name}: {elapsed:?}");
        assert!(plan.apparmor.is_some() && plan.bpf.is_some() && plan.seccomp.is_some());
        // A build without optimisation is 20 times slower, and the machine may be busy.
        let limit = if cfg!(debug_assertions) { 40 } else { 2 };
        assert!(elapsed < Duration::from_secs(limit), "{name}: {elapsed:?}");
    }
}
