// SPDX-License-Identifier: Apache-2.0
//! A watch whose objects are looked at.

use std::pin::pin;

use futures_util::TryStreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

/// Hands every object, and each that changes, to `take`, for ever. `what` they are is for the errors.
pub async fn follow(api: Api<DynamicObject>, what: &str, take: impl Fn(&DynamicObject)) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitApply(object) | Event::Apply(object))) => take(&object),
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => eprintln!("{what}: {error}"),
        }
    }
}
