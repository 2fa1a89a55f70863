// SPDX-License-Identifier: Apache-2.0
//! Events. One that comes again is counted, as the client library does it; but that takes two of one reason for the same
//! whatever they say, so that the second reason of a failure would never be told. Here each text is an Event of its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};

/// As long as the client library remembers one.
const REMEMBERED: Duration = Duration::from_secs(360);

/// Writes Events.
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorders: Mutex<ByText<Recorder>>,
}

impl Events {
    /// Those of a replica or node with this name.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: "policy-sync".to_owned(),
            instance,
        };
        Self {
            client,
            reporter,
            recorders: Mutex::default(),
        }
    }

    /// Writes one about an object.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn publish(
        &self,
        event: &Event,
        reference: &ObjectReference,
    ) -> Result<(), kube::Error> {
        let recorder = {
            let mut recorders = self
                .recorders
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let text = event.note.as_deref().unwrap_or_default();
            recorders
                .get(text, Instant::now(), || {
                    Recorder::new(self.client.clone(), self.reporter.clone())
                })
                .clone()
        };
        recorder.publish(event, reference).await
    }
}

/// Something for each text, as long as it is used.
struct ByText<T>(HashMap<String, (T, Instant)>);

impl<T> Default for ByText<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByText<T> {
    fn get(&mut self, text: &str, now: Instant, make: impl FnOnce() -> T) -> &T {
        self.0
            .retain(|_, (_, used)| now.duration_since(*used) < REMEMBERED);
        let entry = self.0.entry(text.to_owned());
        let (value, used) = entry.or_insert_with(|| (make(), now));
        *used = now;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_own_as_long_as_it_is_used() {
        let (mut texts, began) = (ByText::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(*texts.get("a", at(0), || 1), 1);
        assert_eq!(*texts.get("b", at(0), || 2), 2);
        assert_eq!(*texts.get("a", at(300), || 3), 1);
        assert_eq!(*texts.get("a", at(600), || 4), 1);
        assert_eq!(*texts.get("b", at(600), || 5), 5);
        assert_eq!(texts.0.len(), 2);
    }
}
