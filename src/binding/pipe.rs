//! A bounded queue of bytes between the JavaScript thread and a thread of the engine, for either
//! direction.
//!
//! The JavaScript side never blocks: it pushes until the queue is full, or polls until it is empty,
//! and then waits for a promise. The engine's side blocks. A side that ends early fails the pipe,
//! and the other side ends with that error. Pushed bytes are copied to slabs, which are reused:
//! fresh memory costs more than the copy. The pieces of a restore are queued as they are.

use super::rest::Rest;
use crate::error::{Error, Result};
use crate::ops::{ItemSpec, Piece, SourceFile};
use crate::sync::lock;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Called once, on any thread, when the awaited condition holds or the pipe failed.
pub type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

/// Largest capacity of a pipe, in bytes.
const MAX_CAPACITY: usize = 8 << 20;
/// Smallest capacity of a pipe, in bytes, when memory is scarce.
const MIN_CAPACITY: usize = 512 << 10;
/// Largest slab, in bytes, into which pushed bytes are gathered; half the capacity where that is
/// less.
const MAX_SLAB: usize = 1 << 20;

/// An entry of the queue.
pub enum Packet {
    /// An item begins.
    Item(ItemSpec),
    /// A slab of pushed bytes of the item.
    Bytes(Vec<u8>),
    /// The whole item, to be read from this file by the consumer.
    Path(PathBuf),
    /// The whole item, to be read from this open file.
    File(SourceFile),
    /// A piece of the item, to be read from this open file.
    Rest(Rest),
    /// The item ends.
    ItemEnd,
}

/// The condition that a waiter waits for.
#[derive(Clone, Copy)]
enum Wanted {
    /// Room for more bytes.
    Space,
    /// Something to poll.
    Data,
    /// The consumer has finished all items.
    Quiet,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Packet>,
    /// Of a restore.
    pieces: VecDeque<Piece>,
    /// The slab that is being filled.
    filling: Vec<u8>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    /// Bytes that may be queued; 0 before the operation begins.
    capacity: usize,
    /// Items that have begun and whose end the consumer has not seen.
    items: usize,
    ended: bool,
    failed: Option<Error>,
    waiter: Option<(Wanted, Waiter)>,
}

/// A queue between one producer and one consumer. A new one has no room until [`open`](Pipe::open).
#[derive(Default)]
pub struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    file_bytes: AtomicU64,
}

/// Result of a poll.
pub enum Poll {
    /// A piece.
    Data(Piece),
    /// The end: no further bytes follow.
    End,
    /// Nothing yet.
    Pending,
}

impl Pipe {
    /// Sets the capacity when the operation begins: a sixteenth of `share` bytes, within the
    /// limits.
    pub fn open(&self, share: usize) {
        let waiter = {
            let mut state = self.lock();
            state.capacity = (share / 16).clamp(MIN_CAPACITY, MAX_CAPACITY);
            self.changed.notify_all();
            state.take_waiter(|wanted| matches!(wanted, Wanted::Space))
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no change under this lock can panic halfway
        lock(&self.state)
    }

    /// Ends both sides with `error`. The first error is kept.
    pub fn fail(&self, error: Error) {
        let waiter = {
            let mut state = self.lock();
            state.failed.get_or_insert(error.clone());
            state.packets.clear();
            state.pieces.clear();
            self.changed.notify_all();
            state.waiter.take()
        };
        if let Some((_, waiter)) = waiter {
            waiter(Err(error));
        }
    }

    /// Returns the error of a pipe that has failed.
    pub fn check(&self) -> Result<()> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    // ---- in: JavaScript pushes, the engine reads

    /// Begins an item.
    pub fn begin_item(&self, spec: ItemSpec) {
        self.lock().items += 1;
        self.send(Packet::Item(spec));
    }

    /// Queues the path of a file with the whole item.
    pub fn send_path(&self, path: PathBuf) {
        self.send(Packet::Path(path));
    }

    /// Queues an open file with the whole item.
    pub fn send_file(&self, file: SourceFile) {
        self.send(Packet::File(file));
    }

    /// Queues the rest of a file whose beginning was pushed.
    pub fn send_rest(&self, rest: Rest) {
        self.send(Packet::Rest(rest));
    }

    fn send(&self, packet: Packet) {
        let mut state = self.lock();
        if state.failed.is_some() {
            // no one will take it, and it may hold a descriptor and a promise
            return;
        }
        state.flush();
        state.packets.push_back(packet);
        self.changed.notify_all();
    }

    /// Copies `bytes`. Returns `false` when the pipe is full: wait for [`on_space`](Self::on_space)
    /// before the next push.
    pub fn push(&self, mut bytes: &[u8]) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.failed.is_some() || state.ended {
            return false;
        }
        state.bytes += bytes.len();
        let slab = state.slab();
        while !bytes.is_empty() {
            if state.filling.capacity() == 0 {
                state.filling = state.spare.pop().unwrap_or_else(|| Vec::with_capacity(slab));
            }
            let (now, later) = bytes.split_at((slab - state.filling.len()).min(bytes.len()));
            state.filling.extend_from_slice(now);
            bytes = later;
            if state.filling.len() == slab {
                state.flush();
                self.changed.notify_all();
            }
        }
        state.bytes < state.capacity
    }

    /// Counts bytes that the consumer has read from files.
    pub fn add_file_bytes(&self, len: usize) {
        self.file_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Bytes that the consumer has read from files, of all items.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Ends the item.
    pub fn end_item(&self) {
        self.send(Packet::ItemEnd);
    }

    /// Ends the queue: nothing more will be pushed or given.
    pub fn end(&self) {
        let waiter = {
            let mut state = self.lock();
            state.flush();
            state.ended = true;
            self.changed.notify_all();
            state.waiter.take()
        };
        if let Some((_, waiter)) = waiter {
            waiter(Ok(()));
        }
    }

    /// Calls `waiter` once there is room or the pipe failed; at once if that is already so.
    pub fn on_space(&self, waiter: Waiter) {
        self.wait_until(Wanted::Space, waiter, |state| state.bytes < state.capacity);
    }

    /// Calls `waiter` once there is something to poll or the pipe failed.
    pub fn on_data(&self, waiter: Waiter) {
        self.wait_until(Wanted::Data, waiter, |state| !state.pieces.is_empty() || state.ended);
    }

    /// Calls `waiter` once the consumer has finished all items that have begun, or the pipe failed.
    pub fn on_quiet(&self, waiter: Waiter) {
        self.wait_until(Wanted::Quiet, waiter, |state| state.items == 0);
    }

    fn wait_until(&self, wanted: Wanted, waiter: Waiter, ready: impl Fn(&State) -> bool) {
        let result = {
            let mut state = self.lock();
            match &state.failed {
                Some(error) => Err(error.clone()),
                None if ready(&state) => Ok(()),
                None => {
                    state.waiter = Some((wanted, waiter));
                    return;
                }
            }
        };
        waiter(result);
    }

    /// Counts an item whose end the consumer has seen.
    pub fn item_taken(&self) {
        let waiter = {
            let mut state = self.lock();
            state.items = state.items.saturating_sub(1);
            let quiet = state.items == 0;
            state.take_waiter(|wanted| quiet && matches!(wanted, Wanted::Quiet))
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
    }

    /// Blocks until there is a packet; `None` at the end.
    pub fn next_packet(&self) -> Result<Option<Packet>> {
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

    /// Returns a slab once its bytes are used.
    pub fn recycle(&self, mut slab: Vec<u8>) {
        let waiter = {
            let mut state = self.lock();
            state.bytes = state.bytes.saturating_sub(slab.len());
            slab.clear();
            if state.spare.len() * state.slab() < state.capacity {
                state.spare.push(slab);
            }
            self.changed.notify_all();
            // the producer of a full pipe resumes when half of it is free, not after each slab
            let room = state.bytes <= state.capacity / 2;
            state.take_waiter(|wanted| room && matches!(wanted, Wanted::Space))
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
    }

    // ---- out: the engine gives, JavaScript polls

    /// Blocks until there is room, then queues the piece.
    pub fn give(&self, piece: Piece) -> Result<()> {
        let waiter = {
            let mut state = self.lock();
            loop {
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.bytes < state.capacity {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.bytes += piece.len();
            state.pieces.push_back(piece);
            state.take_waiter(|wanted| matches!(wanted, Wanted::Data))
        };
        if let Some(waiter) = waiter {
            waiter(Ok(()));
        }
        Ok(())
    }

    /// Returns the next piece, if there is one. It must be returned with [`taken`](Self::taken).
    pub fn poll(&self) -> Result<Poll> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        match state.pieces.pop_front() {
            Some(piece) => Ok(Poll::Data(piece)),
            None if state.ended => Ok(Poll::End),
            None => Ok(Poll::Pending),
        }
    }

    /// Takes a piece back once its bytes are used.
    pub fn taken(&self, piece: Piece) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(piece.len());
        self.changed.notify_all();
        drop(state);
        // outside of the lock: its buffers are returned
        drop(piece);
    }
}

impl State {
    /// Length of a slab of pushed bytes.
    fn slab(&self) -> usize {
        // before the pipe is open at most one call pushes
        (self.capacity / 2).clamp(MIN_CAPACITY / 2, MAX_SLAB)
    }

    fn take_waiter(&mut self, is_ready: impl Fn(Wanted) -> bool) -> Option<Waiter> {
        let ready = self.waiter.as_ref().is_some_and(|(wanted, _)| is_ready(*wanted));
        ready.then(|| self.waiter.take()).flatten().map(|(_, waiter)| waiter)
    }

    fn flush(&mut self) {
        if !self.filling.is_empty() {
            let slab = std::mem::take(&mut self.filling);
            self.packets.push_back(Packet::Bytes(slab));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    fn spec(name: &str) -> ItemSpec {
        ItemSpec::new(name, "x")
    }

    fn open_pipe() -> Arc<Pipe> {
        let pipe = Arc::<Pipe>::default();
        pipe.open(usize::MAX);
        pipe
    }

    #[test]
    fn a_new_pipe_has_no_room_until_the_operation_begins() {
        let pipe = Arc::<Pipe>::default();
        let (sender, receiver) = channel();
        pipe.on_space(Box::new(move |result| sender.send(result.is_ok()).unwrap()));
        assert!(receiver.try_recv().is_err());
        pipe.open(0);
        assert!(receiver.recv().unwrap());
        pipe.begin_item(spec("a"));
        assert!(pipe.push(&vec![1; MIN_CAPACITY - 1]));
        assert!(!pipe.push(b"x"));
    }

    #[test]
    fn a_full_pipe_refuses_pushes_and_reports_when_there_is_room() {
        let pipe = open_pipe();
        pipe.begin_item(spec("a"));
        let piece = vec![1u8; MAX_SLAB];
        let mut pushed = 1;
        while pipe.push(&piece) {
            pushed += 1;
        }
        assert_eq!(pushed, MAX_CAPACITY / MAX_SLAB);
        let (sender, receiver) = channel();
        pipe.on_space(Box::new(move |result| sender.send(result.is_ok()).unwrap()));
        assert!(matches!(pipe.next_packet(), Ok(Some(Packet::Item(_)))));
        let take = || match pipe.next_packet() {
            Ok(Some(Packet::Bytes(slab))) => pipe.recycle(slab),
            _ => panic!("no bytes"),
        };
        (0..3).for_each(|_| take());
        assert!(receiver.try_recv().is_err());
        take();
        assert!(receiver.recv().unwrap());
    }

    #[test]
    fn a_failure_reaches_both_sides() {
        let pipe = open_pipe();
        let (sender, receiver) = channel();
        pipe.on_data(Box::new(move |result| sender.send(result).unwrap()));
        pipe.fail(Error::Cancelled);
        assert!(matches!(receiver.recv().unwrap(), Err(Error::Cancelled)));
        assert!(matches!(pipe.give(b"x".to_vec().into()), Err(Error::Cancelled)));
        assert!(!pipe.push(b"x"));
        assert!(pipe.check().is_err());
        assert!(pipe.next_packet().is_err());
    }
}
