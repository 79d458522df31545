//! Moments in the order of the stream, for times that the device itself measures.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cudarc::driver::{DriverError, result, sys};

use super::driver::Driver;
use crate::error::{Error, Result};

/// `cuEventElapsedTime`, which every driver has; cudarc calls one of CUDA 12.8.
type Between = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;

/// Events that are not in use. The lowest is taken first, so that a loop like the last one gets the same.
pub(super) struct Events {
    driver: Arc<Driver>,
    free: Mutex<BTreeSet<usize>>,
}

/// A moment; its event is given back when dropped.
pub struct Mark {
    event: usize,
    events: Arc<Events>,
}

impl Events {
    pub fn new(driver: Arc<Driver>) -> Arc<Self> {
        Arc::new(Events { driver, free: Mutex::default() })
    }

    /// An event that nothing has recorded since it was given back.
    pub fn take(self: &Arc<Self>) -> Result<Mark> {
        let free = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop_first();
        let event = match free {
            Some(event) => event,
            None => {
                self.driver.bind()?;
                let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
                let made = result::event::create(flags);
                made.map_err(|e| self.driver.failed("making an event", e))? as usize
            }
        };
        Ok(Mark { event, events: self.clone() })
    }

    /// Records it at the end of what is queued.
    pub fn record(&self, mark: &Mark) -> Result<()> {
        self.driver.bind()?;
        // SAFETY: event and stream are of this device.
        unsafe { result::event::record(mark.event(), self.driver.stream.cu_stream()) }
            .map_err(|e| self.driver.failed("recording an event", e))
    }

    /// Waits until it has come.
    pub fn wait(&self, mark: &Mark) -> Result<()> {
        self.driver.bind()?;
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(mark.event()) }.map_err(|e| self.failed(e))
    }

    /// Waits for `to`.
    pub fn elapsed(&self, from: &Mark, to: &Mark) -> Result<Duration> {
        self.wait(to)?;
        let mut milliseconds = 0.0f32;
        // SAFETY: both events are alive.
        unsafe {
            let between = self.driver.symbol::<Between>("cuEventElapsedTime")?;
            between(&mut milliseconds, from.event(), to.event())
                .result()
                .map_err(|e| self.failed(e))?;
        }
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }

    fn failed(&self, error: DriverError) -> Error {
        self.driver.failed("waiting for what was queued", error)
    }
}

impl Mark {
    pub(super) fn event(&self) -> sys::CUevent {
        self.event as sys::CUevent
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.events.free.lock().unwrap_or_else(|e| e.into_inner()).insert(self.event);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let free = std::mem::take(&mut *self.free.lock().unwrap_or_else(|e| e.into_inner()));
        if self.driver.bind().is_ok() {
            for event in free {
                // SAFETY: no mark is left: each holds these events. An error has no one to go to.
                let _ = unsafe { result::event::destroy(event as sys::CUevent) };
            }
        }
    }
}
