//! Tests of the buffer pool.

use super::*;
use std::sync::mpsc::{TryRecvError, channel};

const MIB: usize = 1 << 20;

#[test]
fn a_buffer_has_the_requested_length() {
    let pool = BufferPool::new(64 * MIB);
    for len in [0, 1, 65_536, 65_537, MIB, 2 * MIB, 2 * MIB + 1, 5 * MIB] {
        let mut buffer = pool.take(len).unwrap();
        assert_eq!(
            (buffer.len(), buffer.as_slice().len(), buffer.as_mut_slice().len()),
            (len, len, len)
        );
        assert_eq!(
            (buffer.is_empty(), buffer.filled_len(), buffer.spare_len()),
            (len == 0, 0, len)
        );
        assert!(buffer.iter().all(|byte| *byte == 0), "fresh memory is zero");
        buffer.fill(0);
    }
}

#[test]
fn maps_come_in_few_sizes() {
    for (len, size) in [
        (0, SMALLEST),
        (65_537, 131_072),
        (MIB + 1, 2 * MIB),
        (2 * MIB + 1, 4 * MIB),
    ] {
        assert_eq!(map_size(len), Ok(size));
    }
    assert_eq!(map_size(usize::MAX), Err(NoMemory));
    assert_eq!(map_size(usize::MAX / 2 + 1), Err(NoMemory));
}

#[test]
fn filling_stays_within_the_buffer() {
    let pool = BufferPool::new(MIB);
    let mut buffer = pool.take(10).unwrap();
    assert_eq!(buffer.extend_from_slice(b"abcdef"), Ok(()));
    assert_eq!(buffer.extend_from_slice(b"ghijk"), Err(BufferFull));
    assert_eq!(buffer.filled(), b"abcdef");
    buffer.spare()[..2].copy_from_slice(b"gh");
    buffer.advance(2);
    assert_eq!((buffer.filled(), buffer.spare_len()), (&b"abcdefgh"[..], 2));
    buffer[0] = b'A';
    buffer.truncate(20);
    buffer.truncate(3);
    assert_eq!(buffer.filled(), b"Abc");
    buffer.clear();
    assert!(buffer.filled().is_empty());
    assert_eq!(buffer.spare().len(), 10);
    assert_eq!(buffer.extend_from_slice(b"0123456789"), Ok(()));
    assert_eq!(buffer.extend_from_slice(b""), Ok(()));
    assert!(buffer.spare().is_empty());
}

#[test]
fn memory_is_reused_for_the_same_size() {
    let pool = BufferPool::new(8 * MIB);
    let mut buffer = pool.take(MIB).unwrap();
    buffer.fill(7);
    let address = buffer.as_ptr();
    drop(buffer);
    assert_eq!((pool.lent_bytes(), pool.idle_bytes()), (0, MIB));
    let again = pool.take(MIB - 5).unwrap();
    assert_eq!((again.as_ptr(), again.filled_len(), again[0]), (address, 0, 7));
    assert_eq!((pool.lent_bytes(), pool.idle_bytes()), (MIB, 0));
    drop(again);
    pool.release_idle();
    assert_eq!((pool.lent_bytes(), pool.idle_bytes()), (0, 0));
}

#[test]
fn the_limit_holds_for_lent_and_idle_bytes_together() {
    let pool = BufferPool::new(4 * MIB);
    let held: Vec<_> = (0..4).map(|_| pool.take(MIB).unwrap()).collect();
    assert!(pool.try_take(1).unwrap().is_none());
    drop(held);
    assert_eq!(pool.idle_bytes(), 4 * MIB);
    let other = pool.take(2 * MIB).unwrap();
    assert_eq!(
        (pool.lent_bytes(), pool.idle_bytes()),
        (2 * MIB, 2 * MIB),
        "idle maps made room"
    );
    drop(other);
    assert_eq!(pool.idle_bytes(), 4 * MIB);
}

#[test]
fn a_pool_with_nothing_lent_grants_any_request() {
    let pool = BufferPool::new(MIB);
    let big = pool.take(6 * MIB).unwrap();
    assert_eq!(big.len(), 6 * MIB);
    assert!(pool.try_take(1).unwrap().is_none());
    drop(big);
    assert_eq!((pool.lent_bytes(), pool.idle_bytes()), (0, 0), "too big to keep");
    assert!(pool.try_take(1).unwrap().is_some());
    let nothing = BufferPool::new(0);
    assert_eq!(nothing.take(3).unwrap().len(), 3);
}

#[test]
fn impossible_requests_are_errors_and_leave_the_counts_unchanged() {
    let pool = BufferPool::new(MIB);
    assert!(pool.take(usize::MAX).is_err());
    // valid in address arithmetic, but larger than the address space
    assert!(pool.take(isize::MAX as usize - 4 * MIB).is_err());
    assert_eq!(pool.lent_bytes(), 0);
    assert!(pool.try_take(MIB).unwrap().is_some());
}

#[test]
fn take_waits_until_enough_bytes_are_returned() {
    let pool = BufferPool::new(2 * MIB);
    let (first, second) = (pool.take(MIB).unwrap(), pool.take(MIB).unwrap());
    let (sender, receiver) = channel();
    let waiting = {
        let pool = pool.clone();
        std::thread::spawn(move || {
            let buffer = pool.take(2 * MIB).unwrap();
            sender.send(buffer.len()).unwrap();
        })
    };
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(first);
    // one MiB is still lent, so two do not fit, whether or not the other thread has checked yet
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    drop(second);
    assert_eq!(receiver.recv(), Ok(2 * MIB));
    waiting.join().unwrap();
    assert_eq!(pool.lent_bytes(), 0);
}

#[test]
fn many_threads_never_exceed_the_limit() {
    let pool = BufferPool::new(3 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..200usize {
                    let len = [SMALLEST, MIB / 2, MIB, 2 * MIB][(thread + round) % 4];
                    let mut buffer = pool.take(len).unwrap();
                    assert!(pool.lent_bytes() <= 3 * MIB);
                    let mark = [thread as u8; 8];
                    buffer.extend_from_slice(&mark).unwrap();
                    assert_eq!(buffer.filled(), mark);
                    if round % 50 == 0 {
                        pool.release_idle();
                    }
                }
            });
        }
    });
    assert_eq!(pool.lent_bytes(), 0);
    assert!(pool.idle_bytes() <= 3 * MIB);
}
