//! Threads that wait for loops: nothing is allocated, and while they are busy no system call made.
//!
//! A decode step is hundreds of loops of 20 to 500 µs. Here a loop is one published pointer: a
//! thread joins while the loop is open, and the caller, who works too, waits only for those that
//! joined. That costs 0.5 µs where a thread is looking; where none is, the caller does it all. A
//! rayon scope boxes and injects every job and waits even for a thread that only wakes when all is
//! done: measured on two idle cores, 4 × 20 µs take it 50 µs (here 30) and 4 × 50 µs, 142 µs (75).

use super::gemm::part;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread looks for the next loop before it sleeps: longer than what lies between two
/// verbs of a step.
const PATIENCE: Duration = Duration::from_micros(200);

/// Bit of [`Shared::state`]: threads may join the loop. Below it, how many have; above it, the
/// loop's number.
const OPEN: u64 = 1 << 16;
const LOOP: u64 = 1 << 17;

/// The threads beside the caller's.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    running: Mutex<()>, // held by the caller whose loop it is
    body: UnsafeCell<Option<Body>>,
    state: AtomicU64,
    next: Box<[Next]>, // of each thread's share
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleeping: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// How many tasks of one thread's share have been taken; a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Next(AtomicUsize);

/// What a loop runs. The caller's frame holds it until every thread that joined has left.
#[derive(Clone, Copy)]
struct Body {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: `body` is written by the caller that holds `running`, before it opens its loop, and read
// by threads that have joined it; `task` is Sync.
unsafe impl Sync for Shared {}
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads` threads.
    pub(super) fn new(threads: usize) -> std::io::Result<Pool> {
        let shared = Shared {
            running: Mutex::default(),
            body: UnsafeCell::new(None),
            state: AtomicU64::new(0),
            next: (0..threads + 1).map(|_| Next::default()).collect(),
            panic: Mutex::default(),
            stop: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            sleep: Mutex::default(),
            wake: Condvar::new(),
        };
        let mut pool = Pool { shared: Arc::new(shared), threads: Vec::new() };
        for i in 1..threads + 1 {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("muse-{i}"));
            pool.threads.push(builder.spawn(move || shared.serve(i))?);
        }
        Ok(pool)
    }

    /// Threads at work, the caller's among them.
    pub(super) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `task(0..tasks)`; on the caller's thread alone if another caller's loop is running.
    ///
    /// Every thread has a contiguous share that it begins with: where loop after loop divides the
    /// same rows, a core finds in its own cache what it wrote. Who is done takes from the others.
    pub(super) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let running = match shared.running.try_lock() {
            Ok(running) if tasks > 1 && !self.threads.is_empty() => running,
            _ => return (0..tasks).for_each(task),
        };
        // SAFETY: no loop is open, so no thread reads; and see `Body`.
        unsafe {
            let task = std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const _>(task);
            *shared.body.get() = Some(Body { task, tasks });
        }
        for next in &shared.next {
            next.0.store(0, Relaxed);
        }
        let number = shared.state.load(Relaxed) / LOOP + 1;
        // Before the look at `sleeping`, as a thread counts itself there before its last look here.
        shared.state.store(number * LOOP + OPEN, SeqCst);
        if shared.sleeping.load(SeqCst) > 0 {
            drop(shared.sleep.lock());
            shared.wake.notify_all();
        }
        let result = catch_unwind(AssertUnwindSafe(|| shared.work(0, task, tasks)));
        shared.state.fetch_and(!OPEN, AcqRel);
        let mut looks = 0u32;
        while shared.state.load(Acquire) & (OPEN - 1) != 0 {
            looks += 1;
            if looks < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let elsewhere = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(running);
        if let Some(panic) = result.err().or(elsewhere) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        drop(self.shared.sleep.lock());
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Thread `thread`'s part of the loop: its share, then what is left of the others'.
    fn work(&self, thread: usize, task: &(dyn Fn(usize) + Sync), tasks: usize) {
        let threads = self.next.len();
        for owner in (thread..threads).chain(0..thread) {
            let share = part(tasks, threads, owner);
            loop {
                match share.start + self.next[owner].0.fetch_add(1, Relaxed) {
                    i if i < share.end => task(i),
                    _ => break,
                }
            }
        }
    }

    /// Whether a loop is open that this thread, whose last was number `seen`, has not joined.
    fn is_new(state: u64, seen: u64) -> bool {
        state & OPEN != 0 && state / LOOP != seen
    }

    /// A thread's life.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        let mut idle = Instant::now();
        while !self.stop.load(Relaxed) {
            let state = self.state.load(Acquire);
            if Self::is_new(state, seen) {
                if self.state.compare_exchange(state, state + 1, AcqRel, Relaxed).is_ok() {
                    seen = state / LOOP;
                    self.join(thread);
                    self.state.fetch_sub(1, Release);
                    idle = Instant::now();
                }
            } else if idle.elapsed() < PATIENCE {
                for _ in 0..50 {
                    std::hint::spin_loop();
                }
            } else {
                self.rest(seen);
                idle = Instant::now();
            }
        }
    }

    /// Works on the loop that this thread has joined.
    fn join(&self, thread: usize) {
        // SAFETY: joined, so the caller waits; see `Body`.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe {
            if let Some(Body { task, tasks }) = *self.body.get() {
                self.work(thread, &*task, tasks);
            }
        }));
        if let Err(panic) = result {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }

    /// Sleeps until there is a new loop.
    fn rest(&self, seen: u64) {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleeping.fetch_add(1, SeqCst);
        while !Self::is_new(self.state.load(SeqCst), seen) && !self.stop.load(SeqCst) {
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new(2).unwrap();
        for tasks in [0, 1, 2, 3, 100] {
            for _ in 0..2000 {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Relaxed) == 1));
            }
        }
    }

    #[test]
    fn sleepers_wake_and_loops_nest() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            std::thread::sleep(3 * PATIENCE);
            let sum = AtomicUsize::new(0);
            pool.run(8, &|i| {
                pool.run(8, &|j| {
                    sum.fetch_add(i * j, Relaxed);
                });
            });
            assert_eq!(sum.load(Relaxed), 28 * 28);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..20 {
            let run = || pool.run(16, &|i| assert!(i != 7, "task seven"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            pool.run(16, &|_| {});
        }
    }

    #[test]
    fn callers_do_not_wait_for_each_other() {
        let pool = Pool::new(1).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(4, &|i| {
                            sum.fetch_add(i, Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Relaxed), 4 * 500 * 6);
    }
}
