//! First come, first served: the callers of one engine, and what ends their waiting.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::error::{Error, Result};

/// Cancels a request from another thread, or before it has begun: [`crate::Request::cancel`].
///
/// Clones are one and the same. A request that waits for its turn ends at once, one that runs after its step;
/// text encoders and VQ models are not interrupted.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Watched>);

#[derive(Default)]
struct Watched {
    cancelled: AtomicBool,
    waiting: Mutex<Vec<Thread>>, // to be woken
    when: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("cancelled", &self.cancelled).finish_non_exhaustive()
    }
}

/// How long a request waits until it asks whether it is cancelled now.
const ASKED_EVERY: Duration = Duration::from_millis(50);

impl Cancel {
    /// Nothing is cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels by itself once `asked` says so: for what cannot call [`Cancel::cancel`], as an interpreter that notes
    /// an interrupt for its own thread to find. A request asks on the thread that made it, 20 times a second while it
    /// waits, and after every step.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Cancel(Arc::new(Watched { when: Some(Box::new(asked)), ..Watched::default() }))
    }

    /// Cancels every request that has it, those to come too.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        lock(&self.0.waiting).iter().for_each(Thread::unpark);
    }

    /// Whether [`Cancel::cancel`] was called, or what it asks has said so.
    pub fn is_cancelled(&self) -> bool {
        if self
            .0
            .when
            .as_ref()
            .is_some_and(|asked| !self.0.cancelled.load(Ordering::SeqCst) && asked())
        {
            self.cancel();
        }
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

impl PartialEq for Cancel {
    /// Whether they are one and the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The callers of an engine in the order in which they came; the first one's turn it is.
#[derive(Default)]
pub(crate) struct Queue {
    callers: Mutex<VecDeque<Caller>>,
    count: AtomicU64,
}

struct Caller {
    number: u64,
    thread: Thread,
}

/// A caller's turn, until it is dropped.
pub(crate) struct Turn<'a> {
    queue: &'a Queue,
    number: Option<u64>, // none of a call within a call, whose turn it is already
}

impl Queue {
    /// Waits for the calling thread's turn.
    ///
    /// # Errors
    /// [`Error::Cancelled`] as soon as it is.
    pub fn enter(&self, cancel: Option<&Cancel>) -> Result<Turn<'_>> {
        let thread = thread::current();
        let number = {
            let mut callers = lock(&self.callers);
            if callers.front().is_some_and(|caller| caller.thread.id() == thread.id()) {
                return Ok(Turn { queue: self, number: None });
            }
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            callers.push_back(Caller { number, thread: thread.clone() });
            number
        };
        let turn = Turn { queue: self, number: Some(number) };
        if let Some(cancel) = cancel {
            lock(&cancel.0.waiting).push(thread.clone());
        }
        let cancelled = loop {
            if cancel.is_some_and(Cancel::is_cancelled) {
                break true;
            }
            if lock(&self.callers).front().is_some_and(|caller| caller.number == number) {
                break false;
            }
            // Until the turn has come, or it is cancelled; it may also wake for nothing.
            match cancel.is_some_and(|cancel| cancel.0.when.is_some()) {
                true => thread::park_timeout(ASKED_EVERY),
                false => thread::park(),
            }
        };
        if let Some(cancel) = cancel {
            let mut waiting = lock(&cancel.0.waiting);
            if let Some(at) = waiting.iter().position(|other| other.id() == thread.id()) {
                waiting.swap_remove(at);
            }
        }
        match cancelled {
            true => Err(Error::Cancelled { stage: "", step: 0 }),
            false => Ok(turn),
        }
    }

    /// Callers that wait.
    pub fn waiting(&self) -> usize {
        lock(&self.callers).len().saturating_sub(1)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut callers = lock(&self.queue.callers);
        callers.retain(|caller| Some(caller.number) != self.number);
        if let Some(next) = callers.front() {
            next.thread.unpark();
        }
    }
}

/// What is behind these locks is whole after every statement, so that a panic leaves nothing to distrust.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
