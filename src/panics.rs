//! Panics: a bug in the engine ends one operation, never the process that hosts it.
//!
//! What a panic leaves behind nobody knows, so whoever catches one gives up the handle that the operation belonged to. Tests of
//! the Node side make places panic, in a build with the feature `panics` only.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

thread_local! {
    /// Where the last panic of this thread began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps this library's panics off the host's stderr, and remembers where they begin.
pub fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            // a panic while a thread ends finds no place to remember
            let _ = PLACE.try_with(|last| *last.borrow_mut() = place);
        }));
    });
}

/// What `work` returns, or what it panicked with, in words.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        // dropping a payload may panic in turn: a few leaked bytes are the smaller evil
        std::mem::forget(payload);
        let text = text.unwrap_or_else(|| "the engine panicked".to_owned());
        match PLACE.with(|last| last.borrow_mut().take()) {
            Some(place) => format!("{text} ({place})"),
            None => text,
        }
    })
}

#[cfg(all(feature = "panics", not(debug_assertions)))]
compile_error!("the feature `panics` is for tests: no release build may have it");

/// A place that panics when a test asks for it, by its name in the environment.
#[cfg(feature = "panics")]
pub fn point(name: &str) {
    if std::env::var("CONTAINERARCHIVE_PANIC").is_ok_and(|asked| asked == name) {
        std::panic::panic_any(format!("{name} panics on purpose"));
    }
}

/// A place that panics when a test asks for it. Not in this build.
#[cfg(not(feature = "panics"))]
pub fn point(_name: &str) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    #[test]
    fn a_panic_is_caught_with_its_words() {
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
