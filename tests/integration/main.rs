//! One test program: behaviour of the engine through its public API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests may"
)]

mod cancel;
mod concurrent;
mod copies;
mod crash;
mod damage;
mod degraded;
mod disk_full;
mod extras;
mod faults;
#[cfg(target_os = "linux")]
mod file_systems;
mod files;
#[cfg(target_os = "linux")]
mod hostile;
mod house;
mod identity;
mod ingest;
mod init_open;
mod keyless;
mod keys;
mod kill_lists;
mod known_damage;
mod large;
mod limits;
mod locks;
mod machine;
mod mirror;
mod newest;
mod no_room;
mod old_repos;
mod processes;
mod protect;
mod prune;
mod prune_states;
mod races;
mod readme;
mod reindex;
mod remote;
mod repair;
mod restore_file;
mod schedules;
mod small_ingests;
mod stats;
mod support;
mod sweep;
mod syscalls;
#[cfg(unix)]
mod tar;
mod vectors;
mod verify;
