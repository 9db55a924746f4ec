//! Panics: a bug in the engine ends one operation, never the process that hosts it.
//!
//! The state after a panic is unknown, so the caller that catches one closes the handle of the
//! operation. Node tests trigger panics at named points, in a build with the feature `panics` only.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    /// Source location of the last panic of this thread.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of this library off the host's stderr and records their source location.
pub fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_hook(Box::new(|info| {
            let location = info.location().map(ToString::to_string);
            // a thread that is ending has no thread-local storage
            let _ = LOCATION.try_with(|last| *last.borrow_mut() = location);
        }));
    });
}

/// Returns the result of `work`, or the message and location of its panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        // leaked, because dropping a payload may panic in turn
        std::mem::forget(payload);
        let text = text.unwrap_or_else(|| "the engine panicked".to_owned());
        match LOCATION.with(|last| last.borrow_mut().take()) {
            Some(location) => format!("{text} ({location})"),
            None => text,
        }
    })
}

#[cfg(all(feature = "panics", not(debug_assertions)))]
compile_error!("the feature `panics` is for tests: no release build may have it");

/// Panics if the environment variable `CONTAINERARCHIVE_PANIC` is `name`, for tests.
#[cfg(feature = "panics")]
pub fn point(name: &str) {
    if std::env::var("CONTAINERARCHIVE_PANIC").is_ok_and(|asked| asked == name) {
        std::panic::panic_any(format!("{name} panics on purpose"));
    }
}

/// Does nothing in this build; with the feature `panics`, a point at which tests trigger a panic.
#[cfg(not(feature = "panics"))]
pub fn point(_name: &str) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    #[test]
    fn a_panic_is_caught_with_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        for (caught, words) in [
            (caught(|| panic_any("a text")), "a text"),
            (caught(|| panic_any("a string".to_owned())), "a string"),
            (caught(|| panic_any(7)), "the engine panicked"),
        ] {
            let got: Result<(), String> = caught;
            assert!(got.unwrap_err().starts_with(words));
        }
    }
}
