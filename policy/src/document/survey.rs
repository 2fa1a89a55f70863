// SPDX-License-Identifier: Apache-2.0
//! A look at a document before it is turned into types: what it is called, whether a key is written twice, and whether
//! aliases make it larger than its text.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// What errors about a document are headed with.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) is_empty: bool,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

/// What is left of the budget: without aliases, every node and every byte of a scalar costs a byte of text.
pub(super) struct Survey {
    budget: usize,
}

impl Survey {
    pub(super) fn with_budget(text_bytes: usize) -> Self {
        // Nulls and flow punctuation can make a node of no bytes; small files may repeat a short alias.
        Self {
            budget: text_bytes * 2 + 1024,
        }
    }

    pub(super) fn document<'a>(&'a mut self, header: &'a mut Header) -> Node<'a> {
        Node {
            survey: self,
            header,
            place: Place::Root,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Kind,
    Metadata,
    Name,
    Namespace,
    Elsewhere,
}

impl Place {
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "kind") => Self::Kind,
            (Self::Root, "metadata") => Self::Metadata,
            (Self::Metadata, "name") => Self::Name,
            (Self::Metadata, "namespace") => Self::Namespace,
            _ => Self::Elsewhere,
        }
    }
}

pub(super) struct Node<'a> {
    survey: &'a mut Survey,
    header: &'a mut Header,
    place: Place,
}

impl Node<'_> {
    fn spend<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.survey.budget = self.survey.budget.checked_sub(bytes + 1).ok_or_else(|| {
            E::custom("an alias (`*name`) expands to far more than the file's own text; write the values out")
        })?;
        Ok(())
    }

    fn scalar<E: Error>(mut self, value: &str) -> Result<(), E> {
        self.spend(value.len())?;
        match self.place {
            Place::Kind => value.clone_into(&mut self.header.kind),
            Place::Name => value.clone_into(&mut self.header.name),
            Place::Namespace => value.clone_into(&mut self.header.namespace),
            _ => {}
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain YAML without tags")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.header.is_empty |= self.place == Place::Root;
        self.spend(0)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.spend(0)?;
        loop {
            let node = Node {
                survey: self.survey,
                header: self.header,
                place: Place::Elsewhere,
            };
            if seq.next_element_seed(node)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.spend(0)?;
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            self.spend(key.len())?;
            let place = self.place.below(&key);
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!(
                    "duplicate key `{key}`; remove one"
                )));
            }
            map.next_value_seed(Node {
                survey: self.survey,
                header: self.header,
                place,
            })?;
        }
        Ok(())
    }
}
