//! Seccomp: a container's own filter joined with its policy's.

use serde_json::Value;
use varmor_policy::plan::Seccomp;

/// The filter of both, as OCI `linux.seccomp`; never weaker than the container's own.
pub fn merged(_own: Option<&Value>, _policy: &Seccomp) -> Result<Value, String> {
    Err("seccomp filters can't be joined by this build".to_owned())
}
