// SPDX-License-Identifier: Apache-2.0
//! Those who follow violations through the node API.

use std::sync::Mutex;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use varmor_node_api::api::{Violation, ViolationsRequest};

use super::record::Record;

struct Subscriber {
    wants: ViolationsRequest,
    sender: Sender<Violation>,
    missed: u64,
}

impl Subscriber {
    fn is_interested(&self, record: &Record) -> bool {
        let wants = &self.wants;
        let asked = |asked: &str, has: &str| asked.is_empty() || asked == has;
        asked(&wants.namespace, &record.pod_namespace)
            && asked(&wants.pod, &record.pod_name)
            && asked(&wants.container_id, &record.container_id)
            && !(wants.denied_only && record.action != "DENIED")
    }
}

/// All of them.
#[derive(Default)]
pub struct Subscribers(Mutex<Vec<Subscriber>>);

impl Subscribers {
    /// Adds one that is interested in what it says.
    pub fn add(&self, wants: ViolationsRequest, sender: Sender<Violation>) {
        self.0
            .lock()
            .expect("a panic aborts the process")
            .push(Subscriber {
                wants,
                sender,
                missed: 0,
            });
    }

    /// Gives a record to those who are interested, without waiting for any; the number that had no room for it.
    pub fn send(&self, record: &Record) -> u64 {
        let mut dropped = 0;
        let mut subscribers = self.0.lock().expect("a panic aborts the process");
        subscribers.retain_mut(|subscriber| {
            if !subscriber.is_interested(record) {
                return !subscriber.sender.is_closed();
            }
            let mut violation = Violation::new();
            violation.json = serde_json::to_string(record).unwrap_or_default();
            violation.missed = subscriber.missed;
            match subscriber.sender.try_send(violation) {
                Ok(()) => subscriber.missed = 0,
                Err(TrySendError::Full(_)) => {
                    subscriber.missed += 1;
                    dropped += 1;
                }
                Err(TrySendError::Closed(_)) => return false,
            }
            true
        });
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::record::tests::record;
    use tokio::sync::mpsc::channel;

    #[test]
    fn a_slow_subscriber_is_told_what_it_missed() {
        let subscribers = Subscribers::default();
        let (sender, mut receiver) = channel(1);
        subscribers.add(
            ViolationsRequest {
                denied_only: true,
                ..Default::default()
            },
            sender,
        );
        let (other, mut others) = channel(9);
        subscribers.add(
            ViolationsRequest {
                namespace: "elsewhere".into(),
                ..Default::default()
            },
            other,
        );
        let record = record();
        assert_eq!(
            [
                subscribers.send(&record),
                subscribers.send(&record),
                subscribers.send(&record)
            ],
            [0, 1, 1]
        );
        assert_eq!(receiver.try_recv().unwrap().missed, 0);
        assert_eq!(subscribers.send(&record), 0);
        assert_eq!(receiver.try_recv().unwrap().missed, 2);
        assert_eq!(
            subscribers.send(&Record {
                action: "AUDIT",
                ..record.clone()
            }),
            0
        );
        assert!(receiver.try_recv().is_err() && others.try_recv().is_err());
        drop((receiver, others));
        subscribers.send(&record);
        assert!(subscribers.0.lock().unwrap().is_empty());
    }
}
