// SPDX-License-Identifier: Apache-2.0
//! `varmor-nri run`: puts the parts together and runs them until it is told to stop.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use containerd_nri::{Backoff, Identity, run_with_reconnect};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use varmor_node_state::{Layout, NodeState};
use varmor_policy::PolicyError;
use varmor_policy::compile::Settings as CompileSettings;
use varmor_policy::matching::OptIn;

use crate::applied::Applied;
use crate::config::Config;
use crate::enforcers::{apparmor, bpf, seccomp};
use crate::inventory::Inventory;
use crate::node::{Adapters, Node, Settings};
use crate::nri::Varmor;
use crate::policies_dir::{File, Folder, watch::Watch};
use crate::spec_update::Containerd;
use crate::store::{self, Compiler, Policy};
use crate::violations::pump::Pump;
use crate::violations::sinks::{self, Fan};
use crate::violations::subscribers::Subscribers;
use crate::{disks, memory, node_api, sd_notify, stored};

/// Name under which the plugin registers.
const PLUGIN: &str = "varmor";

/// Runs the daemon until SIGTERM or SIGINT. Everything stays enforced then.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Compiling policies and reading the folder; each thread costs memory.
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .context("the async runtime")?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let compiler = compiler(config);
    let files = NodeState::new(Layout {
        run: config.run_dir.clone(),
        state: config.state_dir.clone(),
    });
    files.prepare()?;
    let (bpf, events) = bpf::Kernel::open(&config.bpf_pin_dir);
    let node = Node::new(
        settings(config)?,
        Adapters {
            apparmor: Box::new(apparmor::Kernel::new(
                config.apparmor_parser.clone(),
                config.run_dir.join("apparmor"),
            )),
            bpf: Arc::new(bpf),
            specs: Box::new(Containerd::new(config.containerd_address.clone())),
            files,
            merge: seccomp::merged,
            compiler: Arc::clone(&compiler),
        },
    );
    node.adopt_profiles();
    let inventory = config.state_dir.join("inventory.json");
    match Inventory::load(&inventory) {
        Ok(Some(known)) => node.inventory_found(known),
        Ok(None) => {}
        Err(error) => tracing::error!("{}: {error}", inventory.display()),
    }
    let applied = Applied::new(config.state_dir.join("applied"));
    for (reference, policy) in applied.load(&*compiler)? {
        node.applied_changed(&reference, Some(policy));
    }
    let mut folder = Policies::open(config, for_files(Arc::clone(&compiler)));
    folder.read(&node, Default::default()).await;

    // What was in force before must hold before anything is answered.
    node.reconcile().await;

    let subscribers = Arc::new(Subscribers::default());
    let sinks = Fan::new(
        &node.settings.node,
        Arc::clone(&node.counters),
        sinks::sinks(config),
    )?;
    let pump = events
        .map(|events| Pump::start(events, Arc::clone(&node), sinks, Arc::clone(&subscribers)))
        .transpose()
        .context("the reader of violations")?;
    let service = node_api::Service::new(Arc::clone(&node), applied, inventory, subscribers);
    let api = node_api::serve(&config.node_socket, service, stopped(&stop))?;
    let plugin = Arc::new(Varmor::new(
        Arc::clone(&node),
        config.hook_path.clone(),
        hook_arguments(config),
    ));
    let identity = Identity::new(PLUGIN, config.plugin_index.clone())?;
    let nri = run_with_reconnect(
        &config.nri_socket,
        &identity,
        plugin,
        Backoff::default(),
        stopped(&stop),
    );
    memory::give_back();
    sd_notify::notify("READY=1");
    tracing::info!("ready");
    tokio::select! {
        () = node.reconcile_for_ever() => {}
        () = folder.follow(&node) => {}
        () = stored::follow(config.containerd_address.clone(), Arc::clone(&node)) => {}
        // Both end when they are told to stop, and may finish what they are at.
        _ = async { tokio::join!(nri, api) } => {}
    }
    sd_notify::notify("STOPPING=1");
    tracing::info!("stopping; what is enforced stays enforced");
    if let Some(pump) = pump {
        pump.finish();
    }
    Ok(())
}

fn stopped(stop: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = stop.clone();
    // The sender is gone only when the process is.
    async move { drop(stop.wait_for(|stop| *stop).await) }
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    Ok(Settings {
        node: config.node(),
        opt_in: OptIn::parse(&config.opt_in_label)
            .map_err(|error| anyhow::anyhow!("--opt-in-label: {error}"))?,
        failure_policy: config.failure_policy.into(),
        own_namespace: config.varmor_namespace.clone(),
    })
}

/// Where the kernel lists disks and their partitions.
const PARTITIONS: &str = "/proc/partitions";

fn compiler(config: &Config) -> Arc<Compiler> {
    let settings = CompileSettings {
        cluster_namespace: config.varmor_namespace.clone(),
        ..CompileSettings::default()
    };
    Arc::new(
        move |objects: &[&varmor_policy::PolicyObject], name: Option<&str>| {
            // Disks come and go: each compilation sees those of its time.
            let settings = CompileSettings {
                disk_devices: disks::read(Path::new(PARTITIONS))
                    .map_err(|error| vec![no_disks(objects, &error)])?,
                ..settings.clone()
            };
            match name {
                Some(name) => varmor_policy::compile::compile_as(name, objects, &settings),
                None => varmor_policy::compile::compile_composed(objects, &settings),
            }
        },
    )
}

/// Files hold on a node without an API server, so that nothing in them may need one.
fn for_files(compiler: Arc<Compiler>) -> Arc<Compiler> {
    Arc::new(
        move |objects: &[&varmor_policy::PolicyObject], name: Option<&str>| {
            for object in objects {
                varmor_policy::validate::for_node(object)?;
            }
            compiler(objects, name)
        },
    )
}

/// The node's own failure, said of the policy that it keeps from being compiled.
fn no_disks(objects: &[&varmor_policy::PolicyObject], error: &std::io::Error) -> PolicyError {
    PolicyError {
        object: objects
            .first()
            .map(|object| object.reference())
            .unwrap_or_default(),
        field: "spec.policy".to_owned(),
        text_line: None,
        message: format!("the node's disks cannot be told: {PARTITIONS}: {error}"),
    }
}

/// The hook's options, where they are not its defaults.
fn hook_arguments(config: &Config) -> Vec<String> {
    let defaults = Layout::default();
    let pins = Path::new(varmor_bpf_abi::pins::DIR);
    [
        ("--run-dir", &*config.run_dir, &*defaults.run),
        ("--state-dir", &*config.state_dir, &*defaults.state),
        ("--bpf-dir", &*config.bpf_pin_dir, pins),
    ]
    .into_iter()
    .filter(|(_, chosen, default)| chosen != default)
    .flat_map(|(option, chosen, _)| [option.to_owned(), chosen.to_string_lossy().into_owned()])
    .collect()
}

fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Nobody waits any more when this fails.
        let _ = sender.send(true);
    });
    Ok(receiver)
}

/// The policy folder and its watch.
struct Policies {
    folder: Option<Folder<Vec<Arc<Policy>>>>,
    watch: Watch,
    compiler: Arc<Compiler>,
    revision: Option<u64>,
    error: Option<String>,
}

impl Policies {
    fn open(config: &Config, compiler: Arc<Compiler>) -> Self {
        let path = &config.policies_dir;
        if let Err(error) = std::fs::create_dir_all(path) {
            tracing::error!("{}: {error}", path.display());
        }
        let last_good = config.state_dir.join("last-good");
        Self {
            folder: Some(Folder::new(path.clone(), last_good)),
            // Watched before it is read: no change is missed.
            watch: Watch::new(path),
            compiler,
            revision: None,
            error: None,
        }
    }

    async fn follow(&mut self, node: &Node) {
        loop {
            let being_written = self.watch.changed().await;
            self.read(node, being_written).await;
        }
    }

    async fn read(&mut self, node: &Node, being_written: std::collections::BTreeSet<String>) {
        let Some(mut folder) = self.folder.take() else {
            return;
        };
        let compiler = Arc::clone(&self.compiler);
        // Compiling takes long enough to make the runtime wait.
        let scan = tokio::task::spawn_blocking(move || {
            let result = folder.scan(&being_written, |text| store::read(text, &*compiler));
            (folder, result)
        });
        let Ok((folder, result)) = scan.await else {
            unreachable!("a panic aborts the process");
        };
        let error = result
            .err()
            .map(|error| format!("the policy folder: {error}"));
        if self.revision != Some(folder.revision()) || self.error != error {
            if let Some(error) = &error {
                tracing::error!("{error}; the policies that were read stay in force");
            }
            let by_path = |(name, file): (&String, &File<_>)| {
                let path = folder.path().join(name);
                (path.to_string_lossy().into_owned(), file.clone())
            };
            let files = folder.files().iter().map(by_path).collect();
            node.files_changed(files, error.clone());
        }
        self.revision = Some(folder.revision());
        self.error = error;
        self.folder = Some(folder);
    }
}
