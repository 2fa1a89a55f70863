// SPDX-License-Identifier: Apache-2.0
//! Addresses of Kubernetes services, which the caller has asked the API server for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A service by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceName {
    /// A service by namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One address of a service: a cluster address, or an endpoint's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The address.
    pub address: IpAddr,
    /// The ports; empty is all of them, as for cluster addresses.
    pub ports: Vec<u16>,
}

/// What is known of services. One that was asked for and does not exist is there, without addresses; one that is not
/// there was not asked for.
pub type ServiceAddresses = BTreeMap<ServiceName, Vec<ServiceAddress>>;

/// Why a service cannot be used, and what to do.
pub(super) fn unresolved(service: &ServiceName) -> String {
    format!(
        "needs the API server (policy-sync) to find the addresses of the service {service}, so it cannot be used in \
         policies.d alone; list the addresses in bpfRawRules.network.egress.toDestinations there"
    )
}
