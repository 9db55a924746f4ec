//! Derives a key from a passphrase with Argon2id (RFC 9106). New key files have a minimum cost,
//! existing ones a maximum.
//!
//! The maximum protects the memory of the process from a forged key file.
//!
//! All derivations of the process share [`MEMORY_AT_ONCE`]. Further ones wait in a queue, where
//! each asks its caller whether the key is still wanted. The queue is free of deadlock: a
//! derivation takes its memory, computes, and returns it. In between it takes no lock, reads no
//! file, waits for no other derivation and runs no code of the caller. (A new key file derives
//! twice, one after the other, and holds no memory in between.)
//!
//! The lanes run in a thread pool of the derivation. rayon starts its global pool only once in a
//! process: if the system has no threads at that moment, every later use panics.

use super::{Error, SecretKey};
use crate::budget::Budget;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Memory of all concurrent derivations of the process, in bytes: 256 MiB, four derivations at the
/// default cost. One that needs more runs alone.
const MEMORY_AT_ONCE: u64 = 256 << 20;

static MEMORY: LazyLock<Budget> = LazyLock::new(|| Budget::new(MEMORY_AT_ONCE));

/// Returns whether the caller still wants the key; called while a derivation waits for others.
pub type Wanted<'a> = &'a dyn Fn() -> bool;

/// Cost of one derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory in KiB, `m`.
    pub memory_kib: u32,
    /// Passes over the memory, `t`.
    pub time: u32,
    /// Lanes, `p`.
    pub lanes: u32,
}

/// Smallest cost of a new key file: `m` in KiB and `t` (OWASP's minimum for Argon2id).
const CREATE_FLOOR: (u32, u32) = (19_456, 2);
/// Smallest cost in tests, which derive many keys.
const TEST_FLOOR: (u32, u32) = (8, 1);
/// Largest memory when opening, in KiB: 2 GiB.
const MAX_MEMORY_KIB: u32 = 2_097_152;
/// Largest number of passes when opening.
const MAX_TIME: u32 = 16;
/// Largest number of lanes when opening.
const MAX_LANES: u32 = 16;
/// Largest product of memory and passes when opening, in KiB: 8 GiB, some seconds of work.
const MAX_WORK_KIB: u64 = 8 << 20;
/// Argon2 needs 8 KiB for each lane (RFC 9106 §3.1).
const KIB_PER_LANE: u32 = 8;

impl Default for KdfParams {
    fn default() -> Self {
        Self {
            memory_kib: 65_536,
            time: 3,
            lanes: 4,
        }
    }
}

impl KdfParams {
    /// Checks the cost of a new key file: at least 19,456 KiB, 2 passes and 8 KiB for each lane,
    /// else [`Error::CostTooLow`], and within the maximum of [`check_open`](Self::check_open).
    pub fn check_create(&self) -> Result<(), Error> {
        self.check_floor(if cfg!(any(test, feature = "testing")) {
            TEST_FLOOR
        } else {
            CREATE_FLOOR
        })
    }

    fn check_floor(&self, (memory_kib, time): (u32, u32)) -> Result<(), Error> {
        if self.memory_kib < memory_kib || self.time < time || self.memory_kib / KIB_PER_LANE < self.lanes {
            return Err(Error::CostTooLow);
        }
        self.check_open()
    }

    /// Checks the cost read from a key file. [`Error::CostTooHigh`] above the maximum of format.md
    /// §4.1, [`Error::Damaged`] for a cost that Argon2 cannot have.
    pub fn check_open(&self) -> Result<(), Error> {
        if self.memory_kib > MAX_MEMORY_KIB
            || self.time > MAX_TIME
            || self.lanes > MAX_LANES
            || u64::from(self.memory_kib) * u64::from(self.time) > MAX_WORK_KIB
        {
            return Err(Error::CostTooHigh);
        }
        let possible = self.time >= 1 && self.lanes >= 1 && self.memory_kib / KIB_PER_LANE >= self.lanes;
        if possible { Ok(()) } else { Err(Error::Damaged) }
    }
}

/// Derives `Argon2id(passphrase, salt, m, t, p, version 0x13, 32 bytes)`. The maximum cost is
/// checked before anything is allocated. Waits while other derivations use the memory;
/// [`Error::Unwanted`] once `wanted` returns `false`.
pub fn derive_ikm(
    passphrase: &[u8],
    salt: &[u8; 16],
    params: &KdfParams,
    wanted: Wanted<'_>,
) -> Result<SecretKey, Error> {
    params.check_open()?;
    let mut check = || if wanted() { Ok(()) } else { Err(Error::Unwanted) };
    check()?;
    let _memory = MEMORY.acquire(u64::from(params.memory_kib) << 10, &mut check, &mut || {})?;
    argon2id(passphrase, salt, params)
}

fn argon2id(passphrase: &[u8], salt: &[u8], params: &KdfParams) -> Result<SecretKey, Error> {
    let mut out = Zeroizing::new([0u8; 32]);
    let cost =
        Params::new(params.memory_kib, params.time, params.lanes, Some(out.len())).map_err(|_| Error::Damaged)?;
    // before the memory is touched
    let lanes = pool(params.lanes as usize)?;
    // allocated here, because the crate frees its memory without wiping it and aborts when there is
    // none
    let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
    memory
        .try_reserve_exact(cost.block_count())
        .map_err(|_| Error::NoMemory)?;
    memory.resize(cost.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
    lanes
        .install(|| argon2.hash_password_into_with_memory(passphrase, salt, out.as_mut_slice(), memory.as_mut_slice()))
        .map_err(|_| Error::TooLong)?; // the one error left: a passphrase of 4 GiB or more
    Ok(SecretKey::new(*out))
}

/// Starts threads for `lanes` lanes: at most one for each core, and a single one when the system
/// refuses more.
fn pool(lanes: usize) -> Result<rayon::ThreadPool, Error> {
    let build = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|_| "ca-derive".to_owned())
            .build()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let threads = lanes.clamp(1, cores);
    build(threads).or_else(|_| build(1)).map_err(|_| Error::NoThreads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(memory_kib: u32, time: u32, lanes: u32) -> KdfParams {
        KdfParams {
            memory_kib,
            time,
            lanes,
        }
    }

    /// Vectors of the reference implementation (github.com/P-H-C/phc-winner-argon2, src/test.c,
    /// Argon2id, version 0x13).
    #[test]
    fn gives_the_known_answers_of_the_reference_implementation() {
        for (m, t, p, password, salt, expected) in [
            (
                65_536,
                2,
                1,
                "password",
                "somesalt",
                "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
            ),
            (
                256,
                2,
                1,
                "password",
                "somesalt",
                "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
            ),
            (
                256,
                2,
                2,
                "password",
                "somesalt",
                "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
            ),
            (
                65_536,
                1,
                1,
                "password",
                "somesalt",
                "f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98",
            ),
            (
                65_536,
                2,
                1,
                "differentpassword",
                "somesalt",
                "0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
            ),
            (
                65_536,
                2,
                1,
                "password",
                "diffsalt",
                "bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
            ),
        ] {
            let key = argon2id(password.as_bytes(), salt.as_bytes(), &cost(m, t, p))
                .ok()
                .unwrap();
            assert_eq!(
                crate::id::to_hex(key.as_bytes()),
                expected,
                "m={m} t={t} p={p} {password} {salt}"
            );
        }
    }

    #[test]
    fn the_shipped_costs_are_pinned() {
        assert_eq!(KdfParams::default(), cost(65_536, 3, 4));
        assert_eq!(CREATE_FLOOR, (19_456, 2));
        assert_eq!(KdfParams::default().check_floor(CREATE_FLOOR), Ok(()));
        assert_eq!(cost(19_456, 2, 1).check_floor(CREATE_FLOOR), Ok(()));
        assert_eq!(cost(19_455, 2, 1).check_floor(CREATE_FLOOR), Err(Error::CostTooLow));
        assert_eq!(cost(19_456, 1, 1).check_floor(CREATE_FLOOR), Err(Error::CostTooLow));
        assert_eq!(cost(19_456, 2, 0).check_floor(CREATE_FLOOR), Err(Error::Damaged));
    }

    #[test]
    fn new_key_files_have_floors_and_ceilings() {
        assert_eq!(cost(8, 1, 1).check_create(), Ok(()));
        assert_eq!(cost(7, 1, 1).check_create(), Err(Error::CostTooLow));
        assert_eq!(cost(8, 1, 2).check_create(), Err(Error::CostTooLow));
        assert_eq!(cost(MAX_MEMORY_KIB + 1, 1, 1).check_create(), Err(Error::CostTooHigh));
    }

    #[test]
    fn opening_has_ceilings_that_hold_before_any_work() {
        for fine in [
            cost(8, 1, 1),
            cost(2_097_152, 4, 16),
            cost(524_288, 16, 16),
            KdfParams::default(),
        ] {
            assert_eq!(fine.check_open(), Ok(()), "{fine:?}");
        }
        let (huge, salt) = (u32::MAX, [0; 16]);
        for costly in [
            cost(2_097_153, 1, 1),
            cost(2_097_152, 5, 1),
            cost(524_289, 16, 1),
            cost(65_536, 17, 1),
            cost(65_536, 1, 17),
            cost(huge, huge, huge),
        ] {
            assert_eq!(costly.check_open(), Err(Error::CostTooHigh), "{costly:?}");
            assert_eq!(
                derive_ikm(b"x", &salt, &costly, &|| true).err(),
                Some(Error::CostTooHigh)
            );
        }
        for impossible in [
            cost(0, 1, 1),
            cost(7, 1, 1),
            cost(8, 0, 1),
            cost(8, 1, 0),
            cost(15, 1, 2),
            cost(0, 0, 0),
        ] {
            assert_eq!(impossible.check_open(), Err(Error::Damaged), "{impossible:?}");
        }
    }

    #[test]
    fn an_empty_passphrase_is_a_passphrase() {
        let (one, other) = (
            derive_ikm(b"", &[1; 16], &cost(8, 1, 1), &|| true),
            derive_ikm(b"\0", &[1; 16], &cost(8, 1, 1), &|| true),
        );
        assert!(one.ok().unwrap().as_bytes() != other.ok().unwrap().as_bytes());
    }

    #[test]
    fn a_derivation_that_waits_for_others_ends_when_it_is_not_wanted() {
        use std::sync::atomic::{AtomicBool, Ordering};
        // the whole budget: the derivation has to wait
        let all = MEMORY
            .acquire(MEMORY_AT_ONCE, &mut || Ok::<_, ()>(()), &mut || {})
            .unwrap();
        let wanted = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| derive_ikm(b"x", &[1; 16], &cost(8, 1, 1), &|| wanted.load(Ordering::SeqCst)).err());
            while MEMORY.waiting() == 0 {
                std::thread::yield_now();
            }
            assert!(!waiting.is_finished());
            wanted.store(false, Ordering::SeqCst);
            assert_eq!(waiting.join().unwrap(), Some(Error::Unwanted));
        });
        drop(all);
        assert!(derive_ikm(b"x", &[1; 16], &cost(8, 1, 1), &|| true).is_ok());
        assert_eq!(
            derive_ikm(b"x", &[1; 16], &cost(8, 1, 1), &|| false).err(),
            Some(Error::Unwanted)
        );
    }
}
