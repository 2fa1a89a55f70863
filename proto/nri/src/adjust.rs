// SPDX-License-Identifier: Apache-2.0
//! Builders for what a plugin answers: adjustments of a new container, and updates of others.
//!
//! The messages in [`crate::api`] can be filled by hand as well; these builders know the protocol's conventions, such
//! as the "-" that marks a removal.

use protobuf::MessageField;

use crate::api;

/// When an OCI hook runs (OCI runtime specification, "POSIX-platform Hooks").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookPoint {
    /// Runtime's namespaces, after the container's namespaces were made. Deprecated in OCI.
    Prestart,
    /// Runtime's namespaces, after the container's namespaces were made, before pivot_root.
    CreateRuntime,
    /// Container's mount namespace, before pivot_root.
    CreateContainer,
    /// Container's namespaces, right before the entrypoint.
    StartContainer,
    /// Runtime's namespaces, after the entrypoint started.
    Poststart,
    /// Runtime's namespaces, after the container was deleted.
    Poststop,
}

/// An OCI hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: String,
    /// Its argv, argv\[0\] included.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Seconds after which the OCI runtime kills it; `None` for no limit.
    pub timeout: Option<u32>,
}

impl From<Hook> for api::Hook {
    fn from(hook: Hook) -> Self {
        let mut message = api::Hook::new();
        message.path = hook.path;
        message.args = hook.args;
        message.env = hook.env;
        if let Some(seconds) = hook.timeout {
            let mut value = api::OptionalInt::new();
            value.value = seconds.into();
            message.timeout = MessageField::some(value);
        }
        message
    }
}

/// What `CreateContainer` answers. Starts empty: nothing is changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adjustment {
    adjust: api::ContainerAdjustment,
    update: Vec<api::ContainerUpdate>,
    evict: Vec<api::ContainerEviction>,
}

impl Adjustment {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing would be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets an annotation of the OCI specification.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.adjust.annotations.insert(key.into(), value.into());
        self
    }

    /// Removes an annotation. Another plugin's annotation can only be set after it was removed.
    pub fn remove_annotation(mut self, key: &str) -> Self {
        self.adjust.annotations.insert(removal(key), String::new());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.adjust.env.push(key_value(name.into(), value.into()));
        self
    }

    /// Removes an environment variable.
    pub fn remove_env(mut self, name: &str) -> Self {
        self.adjust
            .env
            .push(key_value(removal(name), String::new()));
        self
    }

    /// Adds a mount.
    pub fn mount(mut self, mount: api::Mount) -> Self {
        self.adjust.mounts.push(mount);
        self
    }

    /// Removes the mount at `destination`.
    pub fn remove_mount(mut self, destination: &str) -> Self {
        let mut mount = api::Mount::new();
        mount.destination = removal(destination);
        self.adjust.mounts.push(mount);
        self
    }

    /// Adds a hook, after those that exist.
    pub fn hook(mut self, point: HookPoint, hook: Hook) -> Self {
        let hooks = self.adjust.hooks.mut_or_insert_default();
        let list = match point {
            HookPoint::Prestart => &mut hooks.prestart,
            HookPoint::CreateRuntime => &mut hooks.create_runtime,
            HookPoint::CreateContainer => &mut hooks.create_container,
            HookPoint::StartContainer => &mut hooks.start_container,
            HookPoint::Poststart => &mut hooks.poststart,
            HookPoint::Poststop => &mut hooks.poststop,
        };
        list.push(hook.into());
        self
    }

    /// Replaces the whole seccomp filter. Only for a runtime with
    /// [`can_adjust_seccomp`](crate::RuntimeVersion::can_adjust_seccomp); for any other the stub answers an error,
    /// since the runtime would start the container without this filter and without a word.
    ///
    /// containerd 2.3.4 loses `default_errno`: give each rule its own `errno_ret`.
    pub fn seccomp(mut self, policy: api::LinuxSeccomp) -> Self {
        let linux = self.adjust.linux.mut_or_insert_default();
        linux.seccomp_policy = MessageField::some(policy);
        self
    }

    /// Changes another container.
    pub fn update(mut self, update: api::ContainerUpdate) -> Self {
        self.update.push(update);
        self
    }

    /// Stops another container.
    pub fn evict(mut self, container_id: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut eviction = api::ContainerEviction::new();
        eviction.container_id = container_id.into();
        eviction.reason = reason.into();
        self.evict.push(eviction);
        self
    }

    /// The adjustment as a message, for what has no method here.
    pub fn message_mut(&mut self) -> &mut api::ContainerAdjustment {
        &mut self.adjust
    }

    /// The adjustment as a message.
    pub fn message(&self) -> &api::ContainerAdjustment {
        &self.adjust
    }

    /// Whether a seccomp filter was set.
    pub fn has_seccomp(&self) -> bool {
        self.adjust
            .linux
            .as_ref()
            .is_some_and(|linux| linux.seccomp_policy.is_some())
    }

    /// The answer to `CreateContainer`.
    pub fn into_response(self) -> api::CreateContainerResponse {
        let mut response = api::CreateContainerResponse::new();
        response.adjust = MessageField::some(self.adjust);
        response.update = self.update;
        response.evict = self.evict;
        response
    }
}

/// An update of the resources of container `id`.
pub fn container_update(
    id: impl Into<String>,
    resources: api::LinuxResources,
) -> api::ContainerUpdate {
    let mut linux = api::LinuxContainerUpdate::new();
    linux.resources = MessageField::some(resources);
    let mut update = api::ContainerUpdate::new();
    update.container_id = id.into();
    update.linux = MessageField::some(linux);
    update
}

/// A seccomp filter with this default action ("SCMP_ACT_..."), for these architectures ("SCMP_ARCH_...").
pub fn seccomp_filter(
    default_action: impl Into<String>,
    architectures: impl IntoIterator<Item = String>,
) -> api::LinuxSeccomp {
    let mut filter = api::LinuxSeccomp::new();
    filter.default_action = default_action.into();
    filter.architectures = architectures.into_iter().collect();
    filter
}

/// A rule of a seccomp filter; `errno` goes with "SCMP_ACT_ERRNO" and "SCMP_ACT_TRACE".
pub fn seccomp_rule(
    names: impl IntoIterator<Item = String>,
    action: impl Into<String>,
    errno: Option<u32>,
) -> api::LinuxSyscall {
    let mut rule = api::LinuxSyscall::new();
    rule.names = names.into_iter().collect();
    rule.action = action.into();
    if let Some(errno) = errno {
        let mut value = api::OptionalUInt32::new();
        value.value = errno;
        rule.errno_ret = MessageField::some(value);
    }
    rule
}

fn removal(name: &str) -> String {
    format!("-{name}")
}

fn key_value(key: String, value: String) -> api::KeyValue {
    let mut pair = api::KeyValue::new();
    pair.key = key;
    pair.value = value;
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_adjustment_is_the_message() {
        let built = Adjustment::new()
            .annotation("a", "1")
            .remove_annotation("b")
            .env("PATH", "/bin")
            .remove_env("SECRET")
            .remove_mount("/data")
            .hook(
                HookPoint::CreateRuntime,
                Hook {
                    path: "/usr/bin/hook".into(),
                    args: vec!["hook".into(), "createRuntime".into()],
                    timeout: Some(5),
                    ..Hook::default()
                },
            )
            .evict("other", "not allowed");
        assert!(!built.is_empty() && !built.has_seccomp());
        let response = built.into_response();
        assert_eq!(response.adjust.annotations["a"], "1");
        assert_eq!(response.adjust.annotations["-b"], "");
        assert_eq!(response.adjust.env[1].key, "-SECRET");
        assert_eq!(response.adjust.mounts[0].destination, "-/data");
        assert_eq!(response.adjust.hooks.create_runtime[0].timeout.value, 5);
        assert_eq!(response.evict[0].container_id, "other");
    }

    #[test]
    fn seccomp_rules_carry_their_errno() {
        let mut filter = seccomp_filter("SCMP_ACT_ALLOW", ["SCMP_ARCH_X86_64".to_owned()]);
        filter.syscalls.push(seccomp_rule(
            ["unshare".to_owned()],
            "SCMP_ACT_ERRNO",
            Some(1),
        ));
        let built = Adjustment::new().seccomp(filter);
        assert!(built.has_seccomp());
        let linux = &built.message().linux;
        assert_eq!(linux.seccomp_policy.syscalls[0].errno_ret.value, 1);
        assert!(linux.seccomp_policy.default_errno.is_none());
    }
}
