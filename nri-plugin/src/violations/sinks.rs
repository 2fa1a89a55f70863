// SPDX-License-Identifier: Apache-2.0
//! Where violations go. A sink may be as slow as it likes: each has a thread and a bounded queue, and what does not fit is
//! counted and reported, so that neither containerd nor the kernel's buffer waits for a disk.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use super::record::Entry;
use crate::counters::Counters;

/// Entries that wait for one sink, at most (some 1 KiB each).
const QUEUE: usize = 4096;

/// A place for violations. A new one is an entry in [`sinks`].
pub trait Sink: Send + 'static {
    /// For error messages.
    fn name(&self) -> &'static str;
    /// Takes an entry; an error counts it as lost.
    fn write(&mut self, entry: &Entry) -> io::Result<()>;
}

/// The sinks of this configuration.
pub fn sinks(config: &crate::config::Config) -> Vec<Box<dyn Sink>> {
    vec![Box::new(super::log::Log::new(config.log.clone()))]
}

/// Gives every entry to every sink.
pub struct Fan {
    queues: Vec<SyncSender<Arc<Entry>>>,
    threads: Vec<thread::JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl Fan {
    /// Starts one thread a sink.
    pub fn new(node: &str, counters: Arc<Counters>, sinks: Vec<Box<dyn Sink>>) -> io::Result<Self> {
        let mut fan = Self {
            queues: Vec::new(),
            threads: Vec::new(),
            counters,
        };
        for sink in sinks {
            let (queue, entries) = sync_channel(QUEUE);
            let (node, counters) = (node.to_owned(), Arc::clone(&fan.counters));
            fan.queues.push(queue);
            fan.threads.push(
                thread::Builder::new()
                    .name("violations".to_owned())
                    .stack_size(256 << 10)
                    .spawn(move || {
                        Worker {
                            node,
                            sink,
                            counters,
                            owed: 0,
                            failing: false,
                        }
                        .run(&entries)
                    })?,
            );
        }
        Ok(fan)
    }

    /// Hands an entry on, never waiting.
    pub fn send(&self, entry: Entry) {
        let entry = Arc::new(entry);
        for queue in &self.queues {
            match queue.try_send(Arc::clone(&entry)) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.counters.lost_on_the_way.add(1);
                }
            }
        }
    }

    /// Lets the sinks finish what is queued.
    pub fn finish(mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a violation sink died");
            }
        }
    }
}

struct Worker {
    node: String,
    sink: Box<dyn Sink>,
    counters: Arc<Counters>,
    /// Losses that the sink itself has not been told yet.
    owed: u64,
    failing: bool,
}

impl Worker {
    fn run(&mut self, entries: &Receiver<Arc<Entry>>) {
        let mut reported = self.counters.lost_on_the_way.get();
        while let Ok(entry) = entries.recv() {
            let lost = self.counters.lost_on_the_way.get();
            if lost > reported {
                self.owed += lost - reported;
                reported = lost;
            }
            if self.owed > 0
                && self
                    .sink
                    .write(&Entry::loss(&self.node, self.owed, "log queue"))
                    .is_ok()
            {
                self.owed = 0;
            }
            match self.sink.write(&entry) {
                Ok(()) => self.failing = false,
                Err(error) => {
                    self.counters.lost_on_the_way.add(1);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(
                            "the {} can't be written, its entries are lost: {error}",
                            self.sink.name()
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    struct Slow {
        go: Receiver<()>,
        seen: Arc<Mutex<Vec<Entry>>>,
    }

    impl Sink for Slow {
        fn name(&self) -> &'static str {
            "slow sink"
        }
        fn write(&mut self, entry: &Entry) -> io::Result<()> {
            // Waits while the test holds the other end.
            let _ = self.go.recv();
            self.seen.lock().unwrap().push(entry.clone());
            Ok(())
        }
    }

    struct Broken;
    impl Sink for Broken {
        fn name(&self) -> &'static str {
            "broken sink"
        }
        fn write(&mut self, _: &Entry) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_slow_sink_loses_entries_and_says_how_many() {
        let (go, gate) = mpsc::channel();
        let seen = Arc::default();
        let counters = Arc::<Counters>::default();
        let fan = Fan::new(
            "n1",
            Arc::clone(&counters),
            vec![Box::new(Slow {
                go: gate,
                seen: Arc::clone(&seen),
            })],
        )
        .unwrap();
        // One is taken by the thread, QUEUE wait, the others are lost.
        for number in 0..QUEUE as u64 + 11 {
            fan.send(Entry::loss("n1", number, "kernel"));
        }
        let lost = counters.lost_on_the_way.get();
        assert!((10..=11).contains(&lost), "{lost}");
        drop(go);
        fan.finish();
        let seen = seen.lock().unwrap();
        let told: u64 = seen
            .iter()
            .filter_map(|entry| match entry {
                Entry::Loss(loss) if loss.lost_in == "log queue" => Some(loss.lost),
                _ => None,
            })
            .sum();
        assert_eq!(told, lost);
    }

    #[test]
    fn a_broken_sink_counts() {
        let counters = Arc::<Counters>::default();
        let fan = Fan::new("n1", Arc::clone(&counters), vec![Box::new(Broken)]).unwrap();
        fan.send(Entry::loss("n1", 1, "kernel"));
        fan.finish();
        assert_eq!(counters.lost_on_the_way.get(), 1);
    }
}
