//! Every plan that is allowed, timed on the device itself.
//!
//! A device that tunes launches nothing else: verbs are called as a model calls them, once to see which
//! problems there are, and once to time each problem with the operands at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cudarc::driver::result;
use cudarc::driver::sys::CUdevice_attribute;

use super::Cuda;
use super::arena::Buffer;
use super::driver::Identity;
use super::plan::{Plan, Problem};
use crate::device::Device;
use crate::error::Result;

/// Launches that warm up, and launches that are timed.
const WARM: usize = 3;
const TIMED: usize = 11;

/// A problem with its plans' times.
#[derive(Clone, Debug)]
pub struct Timed {
    /// What was timed.
    pub problem: Problem,
    /// The plan by rule and its time.
    pub rule: (Plan, Duration),
    /// The fastest plan and its time.
    pub best: (Plan, Duration),
    /// Plans that were timed.
    pub plans: usize,
}

type OnTimed = Box<dyn FnMut(&Timed) + Send>;

/// What a device that tunes has found.
pub struct Tuner {
    /// Written between launches, so that nothing is left in L2.
    flush: Buffer,
    found: Mutex<BTreeMap<Problem, Option<Timed>>>,
    on_timed: Mutex<Option<OnTimed>>,
    /// A plan is being timed: launches go to the device.
    running: AtomicBool,
}

impl Tuner {
    pub(super) fn new(device: &Cuda) -> Result<Arc<Self>> {
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
        let asked = device.driver.context.attribute(attribute);
        let l2 = asked.map_err(|e| device.driver.failed("asking for the size of L2", e))?;
        Ok(Arc::new(Tuner {
            flush: device.alloc(2 * l2.max(1 << 20) as usize)?,
            found: Mutex::default(),
            on_timed: Mutex::default(),
            running: AtomicBool::new(false),
        }))
    }

    /// Problems seen so far.
    pub fn problems(&self) -> Vec<Problem> {
        locked(&self.found).keys().copied().collect()
    }

    /// From now on, problems that were seen are timed when they are met again; `on_timed` hears of each.
    pub fn start(&self, on_timed: impl FnMut(&Timed) + Send + 'static) {
        *locked(&self.on_timed) = Some(Box::new(on_timed));
    }

    /// Everything that was timed.
    pub fn timed(&self) -> Vec<Timed> {
        locked(&self.found).values().flatten().cloned().collect()
    }

    /// Whether launches go to the device.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Notes a problem, or times it; `run` launches with a plan.
    pub(super) fn meet(
        &self,
        device: &Cuda,
        problem: Problem,
        mut run: impl FnMut(Plan) -> Result<()>,
    ) -> Result<()> {
        if self.is_running() {
            return run(device.plans.rule(&problem)); // a part of a plan that is being timed
        }
        let mut on_timed = locked(&self.on_timed);
        let known = locked(&self.found).get(&problem).map(Option::is_some);
        match (known, &mut *on_timed) {
            (None, None) => {
                locked(&self.found).insert(problem, None);
            }
            (Some(false), Some(on_timed)) => {
                self.running.store(true, Ordering::Relaxed);
                let timed = self.time(device, problem, &mut run);
                self.running.store(false, Ordering::Relaxed);
                let timed = timed?;
                on_timed(&timed);
                locked(&self.found).insert(problem, Some(timed));
            }
            _ => {}
        }
        Ok(())
    }

    fn time(
        &self,
        device: &Cuda,
        problem: Problem,
        run: &mut dyn FnMut(Plan) -> Result<()>,
    ) -> Result<Timed> {
        let rule = device.plans.rule(&problem);
        let rule = (rule, self.median(device, rule, run)?);
        let (mut best, mut plans) = (rule, 1);
        for plan in device.plans.allowed(&problem).into_iter().filter(|plan| *plan != rule.0) {
            let time = self.median(device, plan, run)?;
            plans += 1;
            if time < best.1 {
                best = (plan, time);
            }
        }
        Ok(Timed { problem, rule, best, plans })
    }

    /// The median time from before a plan's launches to after them. The host has queued them long before L2 is
    /// flushed. A simulator has no caches and no noise: once will do.
    fn median(
        &self,
        device: &Cuda,
        plan: Plan,
        run: &mut dyn FnMut(Plan) -> Result<()>,
    ) -> Result<Duration> {
        let simulated = device.identity().simulated;
        let (warm, timed) = if simulated { (0, 1) } else { (WARM, TIMED) };
        for _ in 0..warm {
            run(plan)?;
        }
        let mut times = Vec::with_capacity(timed);
        for i in 0..timed {
            if !simulated {
                let (address, bytes) = (self.flush.address(), self.flush.bytes());
                let stream = device.driver.stream.cu_stream();
                // SAFETY: the range is the buffer.
                unsafe { result::memset_d8_async(address, i as u8, bytes, stream) }
                    .map_err(|e| device.driver.failed("flushing L2", e))?;
            }
            let start = device.mark()?;
            run(plan)?;
            times.push(device.elapsed(&start, &device.mark()?)?);
        }
        times.sort();
        Ok(times[timed / 2])
    }
}

impl Cuda {
    /// The device, its driver and its kernels: what plans are good for.
    pub fn identity(&self) -> Identity {
        self.driver.identity()
    }

    /// Every plan for a problem; the one by rule is among them.
    pub fn allowed(&self, problem: &Problem) -> Vec<Plan> {
        self.plans.allowed(problem)
    }

    /// Uses these plans, and the rule for other problems; or gives back one that is not allowed.
    pub fn use_plans(&mut self, table: BTreeMap<Problem, Plan>) -> Option<(Problem, Plan)> {
        let wrong = table.iter().find(|(problem, plan)| !self.allowed(problem).contains(plan));
        let wrong = wrong.map(|(problem, plan)| (*problem, *plan));
        if wrong.is_none() {
            self.plans.table = table;
        }
        wrong
    }

    /// From now on verbs compute nothing: the tuner notes their problems, and then times them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where there is not enough memory.
    pub fn tune(&mut self) -> Result<Arc<Tuner>> {
        let tuner = Tuner::new(self)?;
        self.tuner = Some(tuner.clone());
        Ok(tuner)
    }

    /// Launches with the plan for `problem`.
    pub(super) fn planned(
        &self,
        problem: Problem,
        mut run: impl FnMut(Plan) -> Result<()>,
    ) -> Result<()> {
        match &self.tuner {
            None => run(self.plans.of(&problem)),
            Some(tuner) => tuner.meet(self, problem, run),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
