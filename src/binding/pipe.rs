//! Bytes between the JS thread and the engine's threads, both ways, bounded by bytes.
//!
//! The JS side never blocks: it pushes until told to wait, or polls and is told when there is more; each wait is a promise
//! made only when it is needed. The engine's side blocks. Whoever goes away fails the pipe, and the other side ends with
//! that error. Slabs are handed back and used again: fresh memory costs more than the copy.

use crate::error::{Error, Result};
use crate::ops::{ItemSpec, ItemStream};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Told once that there is room, or data, or that the pipe failed. Called on any thread.
pub type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

/// Bytes that may wait in a pipe when memory is plenty.
const MAX_CAPACITY: usize = 8 << 20;
/// Bytes are gathered into pieces of this size on the way in.
const SLAB: usize = 1 << 20;

/// What is on its way.
enum Packet {
    Item(ItemSpec),
    Bytes(Vec<u8>),
    ItemEnd,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Packet>,
    /// The slab that is being filled.
    filling: Vec<u8>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    ended: bool,
    failed: Option<Error>,
    waiter: Option<Waiter>,
}

/// A bounded queue of bytes between one producer and one consumer.
pub struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that may wait.
    capacity: usize,
}

/// What a poll found.
pub enum Poll {
    /// A piece.
    Data(Vec<u8>),
    /// Nothing more will come.
    End,
    /// Nothing yet.
    Pending,
}

impl Pipe {
    /// For an operation that may use `share` bytes in all.
    pub fn new(share: usize) -> Self {
        let capacity = (share / 16).clamp(2 * SLAB, MAX_CAPACITY);
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change is whole before anything can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends both sides with `error`; the first error stays.
    pub fn fail(&self, error: Error) {
        let waiter = {
            let mut state = self.lock();
            state.failed.get_or_insert(error.clone());
            state.packets.clear();
            self.changed.notify_all();
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter(Err(error));
        }
    }

    // ---- in: JS pushes, the engine reads

    /// Begins an item.
    pub fn begin_item(&self, spec: ItemSpec) {
        let mut state = self.lock();
        state.packets.push_back(Packet::Item(spec));
        self.changed.notify_all();
    }

    /// Copies `bytes`. `false`: wait for [`on_space`](Self::on_space) before the next push.
    pub fn push(&self, mut bytes: &[u8]) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.failed.is_some() || state.ended {
            return false;
        }
        state.bytes += bytes.len();
        while !bytes.is_empty() {
            if state.filling.capacity() == 0 {
                state.filling = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(SLAB));
            }
            let (now, later) = bytes.split_at((SLAB - state.filling.len()).min(bytes.len()));
            state.filling.extend_from_slice(now);
            bytes = later;
            if state.filling.len() == SLAB {
                state.flush();
                self.changed.notify_all();
            }
        }
        state.bytes < self.capacity
    }

    /// Ends the item.
    pub fn end_item(&self) {
        let mut state = self.lock();
        state.flush();
        state.packets.push_back(Packet::ItemEnd);
        self.changed.notify_all();
    }

    /// No more will come.
    pub fn end(&self) {
        let waiter = {
            let mut state = self.lock();
            state.flush();
            state.ended = true;
            self.changed.notify_all();
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
    }

    /// Calls `waiter` once there is room or the pipe failed; at once if that is so already.
    pub fn on_space(&self, waiter: Waiter) {
        self.wait_until(waiter, |state| state.bytes < self.capacity);
    }

    /// Calls `waiter` once there is something to poll or the pipe failed.
    pub fn on_data(&self, waiter: Waiter) {
        self.wait_until(waiter, |state| !state.packets.is_empty() || state.ended);
    }

    fn wait_until(&self, waiter: Waiter, ready: impl Fn(&State) -> bool) {
        let result = {
            let mut state = self.lock();
            match &state.failed {
                Some(error) => Err(error.clone()),
                None if ready(&state) => Ok(()),
                None => {
                    state.waiter = Some(waiter);
                    return;
                }
            }
        };
        waiter(result);
    }

    /// Blocks for the next packet; `None` at the end.
    fn next_packet(&self) -> Result<Option<Packet>> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if let Some(packet) = state.packets.pop_front() {
                return Ok(Some(packet));
            }
            if state.ended {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands a slab back once its bytes are used.
    pub fn recycle(&self, mut slab: Vec<u8>) {
        let waiter = {
            let mut state = self.lock();
            state.bytes = state.bytes.saturating_sub(slab.len());
            slab.clear();
            if state.spare.len() * SLAB < self.capacity {
                state.spare.push(slab);
            }
            self.changed.notify_all();
            // the producer of a full pipe starts again when half is free, not at each slab
            if state.bytes <= self.capacity / 2 {
                state.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
    }

    // ---- out: the engine gives, JS polls

    /// Blocks until there is room, then queues a copy of `bytes`.
    pub fn give(&self, bytes: &[u8]) -> Result<()> {
        let waiter = {
            let mut state = self.lock();
            loop {
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.bytes < self.capacity {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let mut slab = state.spare.pop().unwrap_or_default();
            slab.extend_from_slice(bytes);
            state.bytes += bytes.len();
            state.packets.push_back(Packet::Bytes(slab));
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
        Ok(())
    }

    /// The next piece, if there is one. Hand it back with [`recycle`](Self::recycle), which also counts it as taken.
    pub fn poll(&self) -> Result<Poll> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        match state.packets.pop_front() {
            Some(Packet::Bytes(bytes)) => Ok(Poll::Data(bytes)),
            Some(_) => Err(Error::Internal {
                reason: "an item on its way out".to_owned(),
            }),
            None if state.ended => Ok(Poll::End),
            None => Ok(Poll::Pending),
        }
    }
}

impl State {
    fn flush(&mut self) {
        if !self.filling.is_empty() {
            let slab = std::mem::take(&mut self.filling);
            self.packets.push_back(Packet::Bytes(slab));
        }
    }
}

/// The engine's end of an ingest: items and their bytes as they were pushed.
pub struct PipeItems {
    pipe: Arc<Pipe>,
    slab: Vec<u8>,
    used: usize,
}

impl PipeItems {
    /// Reads from `pipe`.
    pub fn new(pipe: Arc<Pipe>) -> Self {
        Self {
            pipe,
            slab: Vec::new(),
            used: 0,
        }
    }
}

impl ItemStream for PipeItems {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        match self.pipe.next_packet()? {
            Some(Packet::Item(spec)) => Ok(Some(spec)),
            None => Ok(None),
            Some(_) => Err(Error::Internal {
                reason: "bytes outside of an item".to_owned(),
            }),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.used == self.slab.len() {
            if self.slab.capacity() > 0 {
                self.pipe.recycle(std::mem::take(&mut self.slab));
            }
            match self.pipe.next_packet()? {
                Some(Packet::Bytes(slab)) => (self.slab, self.used) = (slab, 0),
                Some(Packet::ItemEnd) => {
                    self.used = 0;
                    return Ok(0);
                }
                Some(Packet::Item(_)) | None => {
                    return Err(Error::Internal {
                        reason: "an item that did not end".to_owned(),
                    });
                }
            }
        }
        let len = out.len().min(self.slab.len() - self.used);
        out[..len].copy_from_slice(&self.slab[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn spec(name: &str) -> ItemSpec {
        ItemSpec::new(name, "x")
    }

    #[test]
    fn items_arrive_as_they_were_pushed() {
        let pipe = Arc::new(Pipe::new(usize::MAX));
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        for (name, bytes) in [("a", &data[..]), ("b", b""), ("c", b"z")] {
            pipe.begin_item(spec(name));
            bytes.chunks(70_001).for_each(|piece| {
                pipe.push(piece);
            });
            pipe.end_item();
        }
        pipe.end();
        let mut items = PipeItems::new(pipe);
        for (name, bytes) in [("a", &data[..]), ("b", b""), ("c", b"z")] {
            assert_eq!(items.next_item().unwrap(), Some(spec(name)));
            let (mut got, mut out) = (Vec::new(), vec![0; 12_345]);
            loop {
                let len = items.read(&mut out).unwrap();
                if len == 0 {
                    break;
                }
                got.extend_from_slice(&out[..len]);
            }
            assert!(got == bytes, "{name}");
        }
        assert_eq!(items.next_item().unwrap(), None);
    }

    #[test]
    fn a_full_pipe_says_so_and_tells_when_there_is_room() {
        let pipe = Arc::new(Pipe::new(usize::MAX));
        pipe.begin_item(spec("a"));
        let piece = vec![1u8; SLAB];
        let mut pushed = 1;
        while pipe.push(&piece) {
            pushed += 1;
        }
        assert_eq!(pushed, MAX_CAPACITY / SLAB);
        let (sender, receiver) = channel();
        pipe.on_space(Box::new(move |result| sender.send(result.is_ok()).unwrap()));
        let mut items = PipeItems::new(Arc::clone(&pipe));
        items.next_item().unwrap();
        let mut out = vec![0; SLAB];
        for _ in 0..4 {
            items.read(&mut out).unwrap();
        }
        assert!(receiver.try_recv().is_err());
        items.read(&mut out).unwrap();
        assert!(receiver.recv().unwrap());
    }

    #[test]
    fn a_failure_reaches_both_sides() {
        let pipe = Arc::new(Pipe::new(usize::MAX));
        let (sender, receiver) = channel();
        pipe.on_data(Box::new(move |result| sender.send(result).unwrap()));
        pipe.fail(Error::Cancelled);
        assert!(matches!(receiver.recv().unwrap(), Err(Error::Cancelled)));
        assert!(matches!(pipe.give(b"x"), Err(Error::Cancelled)));
        assert!(!pipe.push(b"x"));
        assert!(PipeItems::new(pipe).next_item().is_err());
    }
}
