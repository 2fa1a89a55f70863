// SPDX-License-Identifier: Apache-2.0
//! A policy of every built-in rule and 1,000 custom ones: how long it takes to compile, and what the kernel keeps of it.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use varmor_policy::PolicyObject;
use varmor_policy::compile::{ServiceAddresses, ServiceName, Settings, compile};
use varmor_policy::plan::EnforcementPlan;
use varmor_policy::rules::{self, BpfPart, Group};

use crate::figures::{Figure, Section, Unit, median};

/// Custom rules in the policy.
const RULES: usize = 1000;
/// What compiling may take.
const TARGET_MILLISECONDS: f64 = 100.0;

/// What the custom rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Beginnings,
    Ends,
    DirectoriesAnywhere,
    AllOfThese,
}

impl Shape {
    const ALL: [Self; 4] = [
        Self::Beginnings,
        Self::Ends,
        Self::DirectoriesAnywhere,
        Self::AllOfThese,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Beginnings => "beginnings",
            Self::Ends => "ends",
            Self::DirectoriesAnywhere => "directories anywhere",
            Self::AllOfThese => "all of these",
        }
    }

    fn pattern(self, n: usize) -> String {
        match self {
            Self::Beginnings => format!("/opt/apps/{n:04}/secret/**"),
            Self::Ends => format!("/**/private-{n:04}.key"),
            Self::DirectoriesAnywhere => format!("/**/dir{n:04}/**"),
            Self::AllOfThese => Self::ALL[n % 3].pattern(n),
        }
    }

    /// The policy as its author writes it.
    fn yaml(self) -> String {
        let names = |group| {
            let rules = rules::all().filter(|rule| rule.group == group);
            rules.map(|rule| rule.name).collect::<Vec<_>>().join(", ")
        };
        let mut yaml = format!(
            "apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {{name: large, namespace: bench}}
spec:
  target: {{kind: Pod, selector: {{}}}}
  policy:
    enforcer: AppArmorBPFSeccomp
    mode: EnhanceProtect
    enhanceProtect:
      hardeningRules: [{}]
      attackProtectionRules: [{{rules: [{}]}}]
      vulMitigationRules: [{}]
      bpfRawRules:
        files:
",
            names(Group::Hardening),
            names(Group::Attack),
            names(Group::Vulnerability)
        );
        for n in 0..RULES {
            // write! to a String can't fail.
            let _ = writeln!(
                yaml,
                "        - {{qualifiers: [deny, audit], permissions: [read, write], pattern: '{}'}}",
                self.pattern(n)
            );
        }
        yaml
    }

    fn object(self) -> Result<PolicyObject> {
        let mut objects = varmor_policy::parse(&self.yaml()).map_err(|e| anyhow!("{e:?}"))?;
        ensure!(objects.len() == 1, "one policy was written");
        Ok(objects.remove(0))
    }
}

/// Settings under which the built-in rules about services compile: their addresses are the cluster's.
fn settings() -> Settings {
    let services: ServiceAddresses = rules::all()
        .flat_map(|rule| rule.bpf)
        .filter_map(|part| match part {
            BpfPart::Service { namespace, name } => {
                Some((ServiceName::new(*namespace, *name), Vec::new()))
            }
            _ => None,
        })
        .collect();
    Settings {
        services,
        ..Settings::default()
    }
}

/// Compiles each variant `rounds` times.
///
/// # Errors
///
/// Fails when one does not compile.
pub fn measure(rounds: usize) -> Result<Section> {
    let settings = settings();
    let mut figures = Vec::new();
    for shape in Shape::ALL {
        let object = shape.object()?;
        let once = || compile(&object, &settings).map_err(|e| anyhow!("{e:?}"));
        let plan = once()?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let started = Instant::now();
            once()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let time = Figure::new(
            format!("{}: compile, median", shape.name()),
            median(times),
            Unit::Milliseconds,
        );
        figures.push(time.target(TARGET_MILLISECONDS));
        figures.extend(sizes(shape, &plan));
    }
    Ok(Section {
        title: "A large policy".to_owned(),
        notes: vec![format!(
            "every built-in rule and {RULES} file rules, for all three enforcers; {rounds} rounds"
        )],
        figures,
    })
}

/// What is loaded for the plan.
fn sizes(shape: Shape, plan: &EnforcementPlan) -> Vec<Figure> {
    let mut all = Vec::new();
    let mut add = |what: &str, bytes: usize| {
        let kibibytes = bytes as f64 / 1024.0;
        let name = format!("{}: {what}", shape.name());
        all.push(Figure::new(name, kibibytes, Unit::Kibibytes));
    };
    if let Some(bpf) = &plan.bpf {
        let automata = [
            ("from the first byte", bpf.forward.as_ref()),
            ("from the last byte", bpf.backward.as_ref()),
            (
                "mounts",
                bpf.mounts.as_ref().map(|mounts| &mounts.automaton),
            ),
        ];
        for (name, automaton) in automata {
            if let Some(automaton) = automaton {
                let states = automaton.accept.len();
                add(
                    &format!("tables {name}, {states} states"),
                    automaton.bytes(),
                );
            }
        }
    }
    if let Some(text) = &plan.apparmor {
        add("AppArmor's text", text.len());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_built_in_rule_and_a_thousand_custom_ones_compile_soon() {
        let settings = settings();
        for shape in Shape::ALL {
            let object = shape.object().unwrap();
            let started = Instant::now();
            let plan = compile(&object, &settings).unwrap_or_else(|e| panic!("{e:?}"));
            let elapsed = started.elapsed();
            assert!(plan.apparmor.is_some() && plan.bpf.is_some() && plan.seccomp.is_some());
            assert!(sizes(shape, &plan).len() >= 3);
            // A build without optimisation is 20 times slower, and the machine may be busy.
            let limit = if cfg!(debug_assertions) { 40 } else { 2 };
            let name = shape.name();
            assert!(elapsed < Duration::from_secs(limit), "{name}: {elapsed:?}");
        }
    }
}
