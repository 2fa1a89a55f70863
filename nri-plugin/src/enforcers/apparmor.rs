// SPDX-License-Identifier: Apache-2.0
//! AppArmor profiles: compiled and loaded by `apparmor_parser`, examined and removed through securityfs.
//!
//! Only profiles whose name has our prefix are ever touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::AppArmor;

/// What every profile name of ours begins with.
pub const PREFIX: &str = "varmor-";
/// A profile that takes longer to compile than this is given up. (Some 0.1 s natively, far more under emulation.)
const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of the parser's complaint reaches a user.
const MAX_COMPLAINT: usize = 600;

/// AppArmor of this kernel.
pub struct Kernel {
    parser: PathBuf,
    securityfs: PathBuf,
    enabled: PathBuf,
    proc: PathBuf,
    records: PathBuf,
}

impl Kernel {
    /// `parser` is the `apparmor_parser` program; `records` a folder in which the digest of each loaded text is noted,
    /// which must not outlive the kernel (below /run), so that a restart need not compile everything again.
    pub fn new(parser: PathBuf, records: PathBuf) -> Self {
        Self {
            parser,
            securityfs: "/sys/kernel/security/apparmor".into(),
            enabled: "/sys/module/apparmor/parameters/enabled".into(),
            proc: "/proc".into(),
            records,
        }
    }

    async fn compile_and_load(&self, text: &str) -> Result<(), String> {
        let mut child = Command::new(&self.parser)
            // No file argument: the text comes from stdin. The cache is keyed by file name, which there is none.
            .args(["--replace", "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                format!(
                    "can't run {}: {error} (install the package apparmor)",
                    self.parser.display()
                )
            })?;
        let mut stdin = child.stdin.take().ok_or("apparmor_parser has no stdin")?;
        let feed = async move {
            // A parser that gives up early closes its stdin; its complaint is worth more than that error.
            let _ = stdin.write_all(text.as_bytes()).await;
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = timeout(COMPILE_TIMEOUT, run)
            .await
            .map_err(|_| {
                format!(
                    "apparmor_parser took more than {} s",
                    COMPILE_TIMEOUT.as_secs()
                )
            })?
            .map_err(|error| format!("apparmor_parser: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let complaint: String = String::from_utf8_lossy(&output.stderr)
            .chars()
            .take(MAX_COMPLAINT)
            .collect();
        Err(format!(
            "apparmor_parser refused the profile ({}): {}",
            output.status,
            complaint.trim().replace('\n', "; ")
        ))
    }

    fn record(&self, profile: &str) -> PathBuf {
        self.records.join(profile)
    }
}

#[async_trait]
impl AppArmor for Kernel {
    fn unavailable(&self) -> Option<String> {
        match fs::read_to_string(&self.enabled) {
            Ok(enabled) if enabled.trim() == "Y" => {}
            _ => return Some("AppArmor is not enabled in this node's kernel".to_owned()),
        }
        let profiles = self.securityfs.join("profiles");
        fs::File::open(&profiles)
            .err()
            .map(|error| format!("{}: {error} (mount securityfs)", profiles.display()))
    }

    async fn load(&self, profile: &str, text: &str) -> Result<(), String> {
        if !profile.starts_with(PREFIX) {
            return Err(format!("{profile} is not a profile of ours"));
        }
        let digest = crate::policies_dir::digest(text.as_bytes());
        let known = fs::read_to_string(self.record(profile)).ok();
        let loaded = |profile: &str| {
            self.loaded()
                .map(|loaded| loaded.contains(profile))
                .unwrap_or(false)
        };
        if known.as_deref() == Some(&digest) && loaded(profile) {
            return Ok(());
        }
        self.compile_and_load(text).await?;
        if !loaded(profile) {
            return Err(format!(
                "apparmor_parser reported success but the kernel does not list {profile}"
            ));
        }
        let noted = fs::create_dir_all(&self.records)
            .and_then(|()| fs::write(self.record(profile), &digest));
        if let Err(error) = noted {
            tracing::warn!("{}: {error}", self.record(profile).display());
        }
        Ok(())
    }

    async fn neutralise(&self, profile: &str) -> Result<(), String> {
        let listing = fs::read_to_string(self.securityfs.join("profiles"))
            .map_err(|error| error.to_string())?;
        let prefix = format!("{profile}//");
        let names = listing.lines().filter_map(|line| line.split(" (").next());
        let children: Vec<&str> = names
            .filter_map(|name| name.strip_prefix(&prefix))
            .collect();
        self.load(profile, &allow_all(profile, &children)).await
    }

    fn loaded(&self) -> io::Result<BTreeSet<String>> {
        let listing = fs::read_to_string(self.securityfs.join("profiles"))?;
        Ok(listing
            .lines()
            .filter_map(root_profile)
            .map(str::to_owned)
            .collect())
    }

    fn in_use(&self) -> io::Result<BTreeSet<String>> {
        let mut used = BTreeSet::new();
        for process in numbered(&self.proc)? {
            // A process may end at any moment, and a thread may have a profile of its own.
            for thread in numbered(&process.join("task")).unwrap_or_default() {
                let label = fs::read_to_string(thread.join("attr/apparmor/current"))
                    .or_else(|_| fs::read_to_string(thread.join("attr/current")))
                    .unwrap_or_default();
                // Stacked profiles are joined by "//&".
                used.extend(
                    label
                        .split("//&")
                        .filter_map(root_profile)
                        .map(str::to_owned),
                );
            }
        }
        Ok(used)
    }

    fn remove(&self, profile: &str) -> io::Result<()> {
        if !profile.starts_with(PREFIX) {
            return Err(io::Error::other(format!(
                "{profile} is not a profile of ours"
            )));
        }
        fs::OpenOptions::new()
            .write(true)
            .open(self.securityfs.join(".remove"))?
            .write_all(profile.as_bytes())?;
        match fs::remove_file(self.record(profile)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A profile that allows everything. The kernel keeps a child that a new version does not mention, with its old rules and
/// the tasks in it (`__replace_profile` in security/apparmor/policy.c), so each child is named.
fn allow_all(profile: &str, children: &[&str]) -> String {
    const FLAGS: &str = "flags=(attach_disconnected,mediate_deleted)";
    const RULES: &str = "file, capability, network, mount, remount, umount, pivot_root, ptrace, signal, dbus, unix,";
    let mut text = format!("profile \"{profile}\" {FLAGS} {{\n{RULES}\n");
    for child in children {
        text.push_str(&format!("profile \"{child}\" {FLAGS} {{\n{RULES}\n}}\n"));
    }
    text.push_str("}\n");
    text
}

/// `varmor-demo-p//child_0 (enforce)` -> `varmor-demo-p`, when it is one of ours.
fn root_profile(label: &str) -> Option<&str> {
    let name = label.trim().split(" (").next()?;
    let root = name.split("//").next()?;
    root.starts_with(PREFIX).then_some(root)
}

fn numbered(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let Ok(entry) = entry else { continue };
        if entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
        {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A parser that adds the first word of its input to the kernel's list, and notes that it ran.
    const PARSER: &str = r#"#!/bin/sh
read -r word rest
test "$word" != wrong || { echo "AppArmor parser error, line 1: wrong" >&2; exit 1; }
echo "$word (enforce)" >> "$(dirname "$0")/fs/profiles"
echo run >> "$(dirname "$0")/runs"
cat > /dev/null
"#;

    fn fixture() -> (tempfile::TempDir, Kernel) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("fs")).unwrap();
        fs::write(
            path.join("fs/profiles"),
            "cri-containerd.apparmor.d (enforce)\nvarmor-old//child_0 (complain)\n",
        )
        .unwrap();
        fs::write(path.join("fs/.remove"), "").unwrap();
        fs::write(path.join("enabled"), "Y\n").unwrap();
        fs::write(path.join("parser"), PARSER).unwrap();
        fs::set_permissions(path.join("parser"), fs::Permissions::from_mode(0o755)).unwrap();
        for (thread, label) in [
            ("1/task/1", "unconfined"),
            ("20/task/21", "varmor-a//child_1 (enforce)"),
        ] {
            fs::create_dir_all(path.join("proc").join(thread).join("attr")).unwrap();
            fs::write(path.join("proc").join(thread).join("attr/current"), label).unwrap();
        }
        let kernel = Kernel {
            parser: path.join("parser"),
            securityfs: path.join("fs"),
            enabled: path.join("enabled"),
            proc: path.join("proc"),
            records: path.join("records"),
        };
        (directory, kernel)
    }

    #[tokio::test]
    async fn a_profile_is_compiled_once_per_text() {
        let (directory, kernel) = fixture();
        let runs = || {
            fs::read_to_string(directory.path().join("runs"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        kernel.load("varmor-a", "varmor-a one").await.unwrap();
        kernel.load("varmor-a", "varmor-a one").await.unwrap();
        assert_eq!(runs(), 1);
        kernel.load("varmor-a", "varmor-a two").await.unwrap();
        assert_eq!(runs(), 2);
        assert_eq!(
            kernel.loaded().unwrap(),
            BTreeSet::from(["varmor-a".to_owned(), "varmor-old".to_owned()])
        );
    }

    #[test]
    fn neutralised_children_keep_no_rules() {
        let text = allow_all("varmor-a", &["child_0", "child_1"]);
        assert_eq!(text.matches("profile ").count(), 3);
        assert_eq!(text.matches("capability,").count(), 3);
    }

    #[tokio::test]
    async fn failures_say_why() {
        let (_directory, mut kernel) = fixture();
        let error = kernel.load("varmor-a", "wrong text").await.unwrap_err();
        assert!(error.contains("line 1: wrong"), "{error}");
        let error = kernel.load("varmor-b", "varmor-other").await.unwrap_err();
        assert!(error.contains("does not list varmor-b"), "{error}");
        assert!(
            kernel
                .load("docker-default", "docker-default")
                .await
                .is_err()
        );
        kernel.parser = "/nonexistent".into();
        assert!(
            kernel
                .load("varmor-a", "varmor-a")
                .await
                .unwrap_err()
                .contains("can't run")
        );
        kernel.enabled = "/nonexistent".into();
        assert!(kernel.unavailable().is_some());
    }

    #[tokio::test]
    async fn only_our_own_profiles_are_seen_and_removed() {
        let (directory, kernel) = fixture();
        assert_eq!(kernel.unavailable(), None);
        assert_eq!(
            kernel.in_use().unwrap(),
            BTreeSet::from(["varmor-a".to_owned()])
        );
        assert!(kernel.remove("cri-containerd.apparmor.d").is_err());
        kernel.remove("varmor-old").unwrap();
        assert_eq!(
            fs::read_to_string(directory.path().join("fs/.remove")).unwrap(),
            "varmor-old"
        );
    }
}
