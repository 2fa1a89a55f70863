// SPDX-License-Identifier: Apache-2.0
//! Events and the mask that subscribes to them.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

pub use crate::api::Event;

/// A set of events; bit (number - 1) for each, as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventMask(u32);

/// Every event with its name in the protocol.
const EVENTS: [(Event, &str); 14] = [
    (Event::RUN_POD_SANDBOX, "RunPodSandbox"),
    (Event::STOP_POD_SANDBOX, "StopPodSandbox"),
    (Event::REMOVE_POD_SANDBOX, "RemovePodSandbox"),
    (Event::CREATE_CONTAINER, "CreateContainer"),
    (Event::POST_CREATE_CONTAINER, "PostCreateContainer"),
    (Event::START_CONTAINER, "StartContainer"),
    (Event::POST_START_CONTAINER, "PostStartContainer"),
    (Event::UPDATE_CONTAINER, "UpdateContainer"),
    (Event::POST_UPDATE_CONTAINER, "PostUpdateContainer"),
    (Event::STOP_CONTAINER, "StopContainer"),
    (Event::REMOVE_CONTAINER, "RemoveContainer"),
    (Event::UPDATE_POD_SANDBOX, "UpdatePodSandbox"),
    (Event::POST_UPDATE_POD_SANDBOX, "PostUpdatePodSandbox"),
    (
        Event::VALIDATE_CONTAINER_ADJUSTMENT,
        "ValidateContainerAdjustment",
    ),
];

impl EventMask {
    /// No event. On the wire 0 means every event, so a plugin can't subscribe to nothing.
    pub const NONE: Self = Self(0);
    /// The 11 events that every NRI since 0.3 knows: all up to `RemoveContainer`.
    pub const BASE: Self = Self((1 << 11) - 1);
    /// All 14 events that this crate knows.
    pub const ALL: Self = Self((1 << 14) - 1);

    /// The mask of one event.
    pub const fn of(event: Event) -> Self {
        match event {
            Event::UNKNOWN => Self(0),
            event => Self(1 << (event as u32 - 1)),
        }
    }

    /// The mask of several events.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Self {
        events
            .into_iter()
            .fold(Self::NONE, |mask, event| mask | Self::of(event))
    }

    /// Whether `event` is in the mask.
    pub const fn contains(self, event: Event) -> bool {
        self.0 & Self::of(event).0 != 0
    }

    /// Whether the mask holds no event.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits as on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl From<Event> for EventMask {
    fn from(event: Event) -> Self {
        Self::of(event)
    }
}

impl<M: Into<EventMask>> BitOr<M> for EventMask {
    type Output = Self;

    fn bitor(self, other: M) -> Self {
        Self(self.0 | other.into().0)
    }
}

impl<M: Into<EventMask>> BitOrAssign<M> for EventMask {
    fn bitor_assign(&mut self, other: M) {
        self.0 |= other.into().0;
    }
}

impl BitAnd for EventMask {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for EventMask {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// Names separated by commas; "none" for the empty mask.
impl fmt::Display for EventMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (event, name) in EVENTS {
            if self.contains(event) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_wire_ones() {
        assert_eq!(EventMask::of(Event::RUN_POD_SANDBOX).bits(), 1);
        assert_eq!(EventMask::of(Event::CREATE_CONTAINER).bits(), 8);
        assert_eq!(
            EventMask::of(Event::VALIDATE_CONTAINER_ADJUSTMENT).bits(),
            1 << 13
        );
        assert_eq!(EventMask::of(Event::UNKNOWN), EventMask::NONE);
        assert_eq!(
            EventMask::from_events(EVENTS.map(|(event, _)| event)),
            EventMask::ALL
        );
    }

    #[test]
    fn set_operations_and_names() {
        let mask = EventMask::of(Event::CREATE_CONTAINER) | Event::REMOVE_CONTAINER;
        assert!(mask.contains(Event::CREATE_CONTAINER) && !mask.contains(Event::START_CONTAINER));
        assert_eq!(mask.to_string(), "CreateContainer, RemoveContainer");
        assert_eq!(EventMask::NONE.to_string(), "none");
        let newer = !EventMask::BASE;
        assert_eq!(
            newer.to_string(),
            "UpdatePodSandbox, PostUpdatePodSandbox, ValidateContainerAdjustment"
        );
        assert_eq!(newer & EventMask::BASE, EventMask::NONE);
    }
}
