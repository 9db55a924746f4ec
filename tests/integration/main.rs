//! One test program: behaviour of the engine through its public doors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests may")]

mod ingest;
mod support;
