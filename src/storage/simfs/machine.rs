//! The machine of a simulated disk: counters, the log of mutating calls, and the faults ordered for
//! them.

use super::disk::Disk;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Called before a mutating call, with the number that the call gets unless a call of another
/// thread comes first.
pub type BeforeMutation = dyn Fn(u64) + Send + Sync;

/// The disk, its counters, and the orders of the test.
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) calls: u64,
    pub(super) log: Vec<(&'static str, String)>,
    pub(super) handles: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) power_off: bool,
    pub(super) faults: HashMap<u64, io::ErrorKind>,
    pub(super) lost_answers: HashMap<u64, io::ErrorKind>,
    pub(super) skip_file_fsync: bool,
    pub(super) skip_dir_fsync: bool,
    pub(super) before: Option<Arc<BeforeMutation>>,
}

impl Machine {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            calls: 0,
            log: Vec::new(),
            handles: 0,
            crash_at: None,
            power_off: false,
            faults: HashMap::new(),
            lost_answers: HashMap::new(),
            skip_file_fsync: false,
            skip_dir_fsync: false,
            before: None,
        }
    }

    pub(super) fn power_off(&mut self) {
        self.power_off = true;
        self.disk.locks.clear();
    }
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("power is off")
}
