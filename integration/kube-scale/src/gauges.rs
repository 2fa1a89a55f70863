// SPDX-License-Identifier: Apache-2.0
//! What the control plane and the kernel say of themselves.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;

/// Requests by verb and resource.
pub type Requests = BTreeMap<(String, String), u64>;

/// The value of a label in a line of Prometheus' format.
fn label<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once('"'))
        .map_or("", |(value, _)| value)
}

/// Finished requests in the metrics of an API server. Watches count when they end, and are left out.
pub fn requests(metrics: &str) -> Requests {
    let mut requests = Requests::new();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"));
    for line in lines {
        let verb = match label(line, "verb") {
            "WATCH" => continue,
            // Server-side apply is a PATCH in one version and APPLY in another.
            "APPLY" => "PATCH",
            verb => verb,
        };
        let mut resource = label(line, "resource").to_owned();
        let subresource = label(line, "subresource");
        if !subresource.is_empty() && !subresource.starts_with('/') {
            resource = format!("{resource}/{subresource}");
        }
        let count = line
            .rsplit_once(' ')
            .and_then(|(_, count)| count.parse::<f64>().ok());
        *requests.entry((verb.to_owned(), resource)).or_default() +=
            count.unwrap_or_default() as u64;
    }
    requests
}

/// The metrics of a server that this client talks to.
pub async fn metrics(client: &Client) -> Result<String> {
    let request = Request::new("/metrics").list(&ListParams::default())?;
    Ok(client.request_text(request).await?)
}

/// What has been asked of both API servers: custom resources are counted by the one that serves them.
pub async fn all_requests(servers: &[Client]) -> Result<Requests> {
    let mut all = Requests::new();
    for server in servers {
        for (what, count) in requests(&metrics(server).await?) {
            *all.entry(what).or_default() += count;
        }
    }
    Ok(all)
}

/// A gauge of etcd: bytes of its file, and of what in it is in use.
pub fn etcd_sizes(port: u16) -> Result<(u64, u64)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("etcd")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let gauge = |name: &str| -> Result<u64> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.find_map(|rest| rest.trim().parse::<f64>().ok());
        Ok(value.with_context(|| format!("etcd tells no {name}"))? as u64)
    };
    Ok((
        gauge("etcd_mvcc_db_total_size_in_bytes ")?,
        gauge("etcd_mvcc_db_total_size_in_use_in_bytes ")?,
    ))
}

/// A process.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// The process that a part of the bed is.
    pub fn of_part(state: &Path, name: &str) -> Result<Self> {
        let file = state.join("parts").join(format!("{name}.pid"));
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Self(text.trim().parse()?))
    }

    /// Resident memory now and at most, in MiB.
    pub fn memory(self) -> Result<(f64, f64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let field = |name: &str| -> Result<f64> {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
            let value = lines.next().with_context(|| format!("no {name}"))?;
            let kib: f64 = value.trim().trim_end_matches(" kB").trim().parse()?;
            Ok(kib / 1024.0)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Processor time up to now.
    pub fn cpu(self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, rest) = text
            .rsplit_once(')')
            .context("the form of /proc/PID/stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // utime and stime, in the 100ths of a second that Linux always shows.
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_added_up_over_codes() {
        let text = "# TYPE apiserver_request_total counter\n\
            apiserver_request_total{code=\"200\",resource=\"armornodes\",subresource=\"\",verb=\"APPLY\"} 3\n\
            apiserver_request_total{code=\"201\",resource=\"armornodes\",subresource=\"\",verb=\"PATCH\"} 2\n\
            apiserver_request_total{code=\"200\",resource=\"varmorpolicies\",subresource=\"status\",verb=\"PATCH\"} 1e+03\n\
            apiserver_request_total{code=\"0\",resource=\"pods\",subresource=\"\",verb=\"WATCH\"} 9\n";
        let patch = |resource: &str| ("PATCH".to_owned(), resource.to_owned());
        let expected = [
            (patch("armornodes"), 5),
            (patch("varmorpolicies/status"), 1000),
        ];
        assert_eq!(requests(text), Requests::from(expected));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let me = Process(std::process::id());
        let (now, most) = me.memory().unwrap();
        assert!(now > 0.0 && most >= now);
        me.cpu().unwrap();
    }
}
