// SPDX-License-Identifier: Apache-2.0
//! How long the hook itself runs, against real BPF maps.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use varmor_ebpf::object::{Variant, instantiate};
use varmor_ebpf::tables::MetaTable;
use varmor_ebpf::{Enforcer, host};
use varmor_node_state::{
    BpfDemand, ContainerId, Layout, Marker, NodeState, ProfileName, seccomp_digest,
};
use varmor_policy::compile;
use varmor_policy::plan::{EnforcementPlan, PolicyRef, Seccomp};

use super::{PINS, Programs, pods};
use crate::figures::{Figure, Section, Unit, median};

/// What the marker asks for, and so what the hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Check the spec, bind in the maps.
    Bind,
    /// Check the spec only.
    Check,
}

/// Runs the hook `runs` times for one container.
///
/// # Errors
///
/// Fails when the maps can't be made and when the hook refuses.
pub fn measure(programs: &Programs, runs: usize) -> Result<Section> {
    let stage = Stage::set(programs)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(stage.run(Work::Bind)?);
    }
    let figures =
        vec![Figure::new("createRuntime, median", median(times), Unit::Milliseconds).target(2.0)];
    let notes = vec![format!(
        "{runs} runs, from fork to exit; marker, config.json and filter checked, container bound in the maps"
    )];
    Ok(Section {
        title: "Hook".to_owned(),
        notes,
        figures,
    })
}

/// What binding in the maps adds to a run of the hook, in milliseconds at the median.
///
/// # Errors
///
/// As [`measure`].
pub fn binding_cost(programs: &Programs) -> Result<f64> {
    let stage = Stage::set(programs)?;
    let (mut checked, mut bound) = (Vec::new(), Vec::new());
    for _ in 0..101 {
        checked.push(stage.run(Work::Check)?);
        bound.push(stage.run(Work::Bind)?);
    }
    // Less than nothing is noise.
    Ok((median(bound) - median(checked)).max(0.0))
}

/// All that the hook finds on a node: maps with a profile, two markers, a bundle, and a process in a mount namespace.
struct Stage {
    hook: std::path::PathBuf,
    directory: tempfile::TempDir,
    init: Child,
}

impl Stage {
    fn set(programs: &Programs) -> Result<Self> {
        let plan = plan()?;
        make_maps(&plan)?;
        let directory = tempfile::tempdir_in("/run").context("making a directory")?;
        let Some(Seccomp::Rules(filter)) = &plan.seccomp else {
            return Err(anyhow!("the bench's policy has no filter"));
        };
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["/bin/sleep", "1"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "linux": {"seccomp": filter},
            "annotations": {"io.kubernetes.cri.container-type": "container"},
        });
        std::fs::write(directory.path().join("config.json"), config.to_string())
            .context("writing config.json")?;
        let files = NodeState::new(Layout {
            run: directory.path().join("run"),
            state: directory.path().join("state"),
        });
        files.prepare()?;
        for (work, bpf) in [
            (Work::Bind, BpfDemand::Profile),
            (Work::Check, BpfDemand::Nothing),
        ] {
            files.save_marker(&Marker {
                container_id: ContainerId::new(id(work))?,
                namespace: "bench".to_owned(),
                pod: "bench".to_owned(),
                pod_uid: "bench-uid".to_owned(),
                container: "c1".to_owned(),
                policy: Some(plan.policy.clone()),
                profile: Some(ProfileName::new(plan.profile.clone())?),
                bpf,
                apparmor: None,
                seccomp: Some(seccomp_digest(filter)?),
                addresses: vec!["10.0.0.1".parse()?],
            })?;
        }
        let init = Command::new(std::env::current_exe()?)
            .args(["wait", "/", "/"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process in a mount namespace")?;
        let mut stage = Self {
            hook: programs.hook(),
            directory,
            init,
        };
        let mut line = String::new();
        let output = stage
            .init
            .stdout
            .as_mut()
            .context("a pipe from the process")?;
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line.trim() == crate::operations::READY,
            "the process says {line:?}"
        );
        Ok(stage)
    }

    /// Milliseconds from fork to exit.
    fn run(&self, work: Work) -> Result<f64> {
        let state = json!({
            "ociVersion": "1.2.0", "id": id(work), "status": "creating",
            "pid": self.init.id(), "bundle": self.directory.path(),
        });
        let before = Instant::now();
        let mut hook = Command::new(&self.hook)
            .arg("--run-dir")
            .arg(self.directory.path().join("run"))
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .arg("--log")
            .arg(self.directory.path().join("hook.log"))
            .arg("createRuntime")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.hook.display()))?;
        hook.stdin
            .take()
            .context("a pipe to the hook")?
            .write_all(state.to_string().as_bytes())?;
        let status = hook.wait()?;
        let took = before.elapsed().as_secs_f64() * 1e3;
        if !status.success() {
            let refusal = hook.wait_with_output()?.stderr;
            return Err(anyhow!(
                "the hook ended with {status}: {}",
                String::from_utf8_lossy(&refusal)
            ));
        }
        Ok(took)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It waits for a line that never comes.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// A container's id as containerd makes them.
fn id(work: Work) -> String {
    match work {
        Work::Bind => "b".repeat(64),
        Work::Check => "c".repeat(64),
    }
}

fn plan() -> Result<EnforcementPlan> {
    let objects = varmor_policy::parse(&pods::policy("BPFSeccomp"))
        .map_err(|errors| anyhow!("the bench's own policy: {errors:?}"))?;
    let [object] = &objects[..] else {
        return Err(anyhow!("the bench's own policy is not one object"));
    };
    let reference: PolicyRef = object.reference();
    let plan = compile::compile(object, &compile::Settings::default())
        .map_err(|errors| anyhow!("compiling {}: {errors:?}", reference.name))?;
    Ok(plan)
}

/// Makes the maps without the programs, which this kernel may refuse, and loads the profile into them.
fn make_maps(plan: &EnforcementPlan) -> Result<()> {
    let pins = Path::new(PINS);
    host::prepare_pin_dir(pins)?;
    MetaTable::open(pins)?;
    let btf = aya::Btf::from_sys_fs().context("reading the kernel's types")?;
    instantiate(Variant::of_this_kernel()?, &btf, pins).context("making the BPF maps")?;
    let rules = plan
        .bpf
        .as_ref()
        .context("the bench's policy has no BPF part")?;
    Ok(Enforcer::open(pins)?.set_profile(&plan.profile, rules)?)
}
