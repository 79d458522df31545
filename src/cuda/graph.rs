//! A sequence of launches as one unit: the decode loop of a stage is one graph.
//!
//! A loop is recorded as a list of launches, which costs next to nothing, and compared with the loops
//! that have a graph already. Where only arguments differ (the seed, a prompt of another length) those
//! nodes are set anew; an equal loop is launched as it is. So a graph can never be stale.

use std::ptr;

use cudarc::driver::{DriverError, result, sys};

use super::driver::Driver;
use super::kernel::Launch;
use crate::error::Result;

/// Graphs that are kept: two stages of a few prompt lengths and options each.
const KEPT: usize = 8;

#[derive(Default)]
pub(super) struct Graphs {
    /// The one used last is the last.
    graphs: Vec<Graph>,
}

/// What a loop is made of.
#[derive(Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are kernels; a box each would cost more")]
pub(super) enum Queued {
    Kernel(Launch),
    /// Notes the time.
    Event(sys::CUevent),
}

struct Graph {
    work: Vec<Queued>,
    nodes: Vec<sys::CUgraphNode>,
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
}

// SAFETY: handles that the driver lets any thread use; one at a time, as they are behind a lock.
unsafe impl Send for Graph {}

impl Graphs {
    /// Runs all of it, in its order, as one graph.
    pub fn play(&mut self, driver: &Driver, work: Vec<Queued>) -> Result<()> {
        if work.is_empty() {
            return Ok(());
        }
        driver.bind()?;
        let fits = |graph: &Graph| {
            graph.work.len() == work.len()
                && graph.work.iter().zip(&work).all(|(a, b)| match (a, b) {
                    (Queued::Kernel(a), Queued::Kernel(b)) => a.function == b.function,
                    _ => a == b,
                })
        };
        let graph = match self.graphs.iter().rposition(fits) {
            Some(index) => {
                let mut graph = self.graphs.remove(index);
                graph.update(driver, work)?;
                graph
            }
            None => Graph::build(driver, work)?,
        };
        // SAFETY: the graph is instantiated and its stream alive.
        let launched =
            unsafe { result::graph::launch(graph.executable, driver.stream.cu_stream()) };
        launched.map_err(|e| driver.failed("launching a decode loop", e))?;
        if self.graphs.len() == KEPT {
            self.graphs.remove(0);
        }
        self.graphs.push(graph);
        Ok(())
    }
}

impl Graph {
    fn build(driver: &Driver, work: Vec<Queued>) -> Result<Self> {
        let failed = |e| driver.failed("recording a decode loop", e);
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is written.
        unsafe { sys::cuGraphCreate(&mut handle, 0) }.result().map_err(failed)?;
        let mut graph =
            Graph { work, nodes: Vec::new(), graph: handle, executable: ptr::null_mut() };
        let early = Early::of(driver);
        let mut kernel_before = false;
        for queued in &graph.work {
            // From kernel to kernel the next may start early, where driver and device can do that.
            let kernel = matches!(queued, Queued::Kernel(_));
            let early = early.as_ref().filter(|_| kernel && kernel_before);
            kernel_before = kernel;
            let last = graph.nodes.last();
            let before = last.filter(|_| early.is_none()).map_or(ptr::null(), ptr::from_ref);
            let count = usize::from(!before.is_null());
            let mut node = ptr::null_mut();
            // SAFETY: the driver copies parameters and arguments before it returns; events live as long as
            // their device.
            let added = unsafe {
                match queued {
                    Queued::Kernel(launch) => {
                        let mut pointers = launch.pointers();
                        let parameters = parameters(launch, &mut pointers);
                        sys::cuGraphAddKernelNode_v2(&mut node, handle, before, count, &parameters)
                    }
                    Queued::Event(event) => {
                        sys::cuGraphAddEventRecordNode(&mut node, handle, before, count, *event)
                    }
                }
            };
            added
                .result()
                .map_err(|e| driver.failed(&format!("recording {}", queued.describe()), e))?;
            if let (Some(early), Some(last)) = (early, last) {
                early.add(handle, *last, node).map_err(failed)?;
            }
            graph.nodes.push(node);
        }
        // SAFETY: the graph is complete.
        unsafe { sys::cuGraphInstantiateWithFlags(&mut graph.executable, handle, 0) }
            .result()
            .map_err(failed)?;
        Ok(graph)
    }

    /// Sets the nodes whose launches differ.
    fn update(&mut self, driver: &Driver, work: Vec<Queued>) -> Result<()> {
        for ((node, old), new) in self.nodes.iter().zip(&self.work).zip(&work) {
            let Queued::Kernel(launch) = new else { continue };
            if old == new {
                continue;
            }
            let mut pointers = launch.pointers();
            let parameters = parameters(launch, &mut pointers);
            // SAFETY: a node of this graph; arguments are copied before the call returns.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, *node, &parameters) }
                .result()
                .map_err(|e| driver.failed(&format!("setting {}", new.describe()), e))?;
        }
        self.work = work;
        Ok(())
    }
}

/// Adds edges along which a kernel may start before the one before it has ended (programmatic dependent
/// launch). Drivers have the function since CUDA 12.3.
struct Early(AddDependencies);

type AddDependencies = unsafe extern "C" fn(
    sys::CUgraph,
    *const sys::CUgraphNode,
    *const sys::CUgraphNode,
    *const sys::CUgraphEdgeData,
    usize,
) -> sys::CUresult;

impl Early {
    /// None where the driver, the device or the kernels are not made for it.
    fn of(driver: &Driver) -> Option<Self> {
        // SAFETY: the function's type, as cuda.h declares it.
        let function = || unsafe { driver.symbol("cuGraphAddDependencies_v2") };
        driver.overlaps().then(function)?.ok().map(Early)
    }

    fn add(
        &self,
        graph: sys::CUgraph,
        from: sys::CUgraphNode,
        to: sys::CUgraphNode,
    ) -> std::result::Result<(), DriverError> {
        let edge = sys::CUgraphEdgeData {
            from_port: 1, // CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC
            to_port: 0,
            type_: 1, // CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
            reserved: [0; 5],
        };
        // SAFETY: one node at either end, both of the graph.
        unsafe { (self.0)(graph, &from, &to, &edge, 1) }.result()
    }
}

impl Queued {
    fn describe(&self) -> String {
        match self {
            Queued::Kernel(launch) => launch.describe(),
            Queued::Event(_) => "a point in time".into(),
        }
    }
}

fn parameters(
    launch: &Launch,
    pointers: &mut [*mut std::ffi::c_void],
) -> sys::CUDA_KERNEL_NODE_PARAMS {
    sys::CUDA_KERNEL_NODE_PARAMS {
        func: launch.function,
        gridDimX: launch.grid[0],
        gridDimY: launch.grid[1],
        gridDimZ: launch.grid[2],
        blockDimX: launch.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: launch.shared,
        kernelParams: pointers.as_mut_ptr(),
        extra: ptr::null_mut(),
        kern: ptr::null_mut(),
        ctx: ptr::null_mut(),
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: nothing else has these handles; a graph that still runs is destroyed when it is done.
        unsafe {
            if !self.executable.is_null() {
                let _ = result::graph::exec_destroy(self.executable);
            }
            let _ = result::graph::destroy(self.graph);
        }
    }
}
