//! Handles: numbers that no program can mistake for memory, looked up before every use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::status::{Result, Status};

/// The next handle. In the gap between user and kernel addresses, so that a program that follows one
/// stops at once; never used twice, so that a destroyed object is told from its successor.
static NEXT: AtomicUsize = AtomicUsize::new(0x00c0_da00_0000_0000);

/// Objects of one type by handle.
#[derive(Debug)]
pub struct Table<T> {
    /// What it holds, for messages.
    what: &'static str,
    items: BTreeMap<usize, T>,
}

impl<T> Table<T> {
    pub fn new(what: &'static str) -> Self {
        Self { what, items: BTreeMap::new() }
    }

    pub fn add(&mut self, item: T) -> usize {
        let handle = new_handle();
        self.items.insert(handle, item);
        handle
    }

    pub fn get(&self, handle: usize) -> Result<&T> {
        self.items.get(&handle).ok_or(()).or_else(|()| self.unknown(handle))
    }

    pub fn get_mut(&mut self, handle: usize) -> Result<&mut T> {
        if !self.items.contains_key(&handle) {
            return self.unknown(handle);
        }
        Ok(self.items.get_mut(&handle).expect("just found"))
    }

    pub fn remove(&mut self, handle: usize) -> Result<T> {
        self.items.remove(&handle).ok_or(()).or_else(|()| self.unknown(handle))
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.items.iter().map(|(&handle, item)| (handle, item))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.values_mut()
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.items.retain(|_, item| keep(item));
    }

    fn unknown<U>(&self, handle: usize) -> Result<U> {
        let what = self.what;
        Status::INVALID_HANDLE.because(if handle == 0 {
            format!("expected a {what}, found null")
        } else {
            format!("expected a {what}, found {handle:#x}, which is none or was destroyed")
        })
    }
}

/// A handle for something kept elsewhere.
pub fn new_handle() -> usize {
    NEXT.fetch_add(16, Ordering::Relaxed)
}
