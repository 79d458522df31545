//! A sequence of launches as one unit: the decode loop of a stage is one graph.
//!
//! A loop is recorded as a list of launches, which costs next to nothing, and compared with the loops
//! that have a graph already. Where only arguments differ (the seed, a prompt of another length) those
//! nodes are set anew; an equal loop is launched as it is. So a graph can never be stale.

use std::ptr;

use cudarc::driver::{result, sys};

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

struct Graph {
    launches: Vec<Launch>,
    nodes: Vec<sys::CUgraphNode>,
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
}

// SAFETY: handles that the driver lets any thread use; one at a time, as they are behind a lock.
unsafe impl Send for Graph {}

impl Graphs {
    /// Runs the launches, in their order, as one graph.
    pub fn play(&mut self, driver: &Driver, launches: Vec<Launch>) -> Result<()> {
        if launches.is_empty() {
            return Ok(());
        }
        driver.bind()?;
        let fits = |graph: &Graph| {
            graph.launches.len() == launches.len()
                && graph.launches.iter().zip(&launches).all(|(a, b)| a.function == b.function)
        };
        let graph = match self.graphs.iter().rposition(fits) {
            Some(index) => {
                let mut graph = self.graphs.remove(index);
                graph.update(driver, launches)?;
                graph
            }
            None => Graph::build(driver, launches)?,
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
    fn build(driver: &Driver, launches: Vec<Launch>) -> Result<Self> {
        let failed = |e| driver.failed("recording a decode loop", e);
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is written.
        unsafe { sys::cuGraphCreate(&mut handle, 0) }.result().map_err(failed)?;
        let mut graph =
            Graph { launches, nodes: Vec::new(), graph: handle, executable: ptr::null_mut() };
        for launch in &graph.launches {
            let before = graph.nodes.last().map_or(ptr::null(), ptr::from_ref);
            let count = usize::from(!graph.nodes.is_empty());
            let mut node = ptr::null_mut();
            let mut pointers = launch.pointers();
            let parameters = parameters(launch, &mut pointers);
            // SAFETY: the driver copies parameters and arguments before it returns.
            unsafe { sys::cuGraphAddKernelNode_v2(&mut node, handle, before, count, &parameters) }
                .result()
                .map_err(|e| driver.failed(&format!("recording {}", launch.describe()), e))?;
            graph.nodes.push(node);
        }
        // SAFETY: the graph is complete.
        unsafe { sys::cuGraphInstantiateWithFlags(&mut graph.executable, handle, 0) }
            .result()
            .map_err(failed)?;
        Ok(graph)
    }

    /// Sets the nodes whose launches differ.
    fn update(&mut self, driver: &Driver, launches: Vec<Launch>) -> Result<()> {
        for ((node, old), new) in self.nodes.iter().zip(&self.launches).zip(&launches) {
            if old == new {
                continue;
            }
            let mut pointers = new.pointers();
            let parameters = parameters(new, &mut pointers);
            // SAFETY: a node of this graph; arguments are copied before the call returns.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, *node, &parameters) }
                .result()
                .map_err(|e| driver.failed(&format!("setting {}", new.describe()), e))?;
        }
        self.launches = launches;
        Ok(())
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
