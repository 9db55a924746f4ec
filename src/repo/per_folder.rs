//! State that a handle has read from the folder of its repository, and drops when the folder is
//! replaced.

use crate::base::{Base, Generation};
use crate::sync::lock;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

/// A value that is valid for one folder; it is reset to its default once [`Base::check_folder`] has
/// found another one.
#[derive(Default)]
pub(super) struct PerFolder<T>(Mutex<(Generation, T)>);

/// Exclusive access to the value for the lifetime of the guard.
pub(super) struct Guard<'a, T>(MutexGuard<'a, (Generation, T)>);

impl<T: Default> PerFolder<T> {
    pub(super) fn lock(&self, base: &Base) -> Guard<'_, T> {
        let mut value = lock(&self.0);
        let folder = base.generation();
        if value.0 != folder {
            *value = (folder, T::default());
        }
        Guard(value)
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.1
    }
}
