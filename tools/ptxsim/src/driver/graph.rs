//! Graphs: made by capture or node by node, instantiated, updated, launched.

use std::collections::BTreeSet;
use std::ffi::{c_uint, c_ulonglong};
use std::sync::Arc;

use super::abi::{CUgraph, CUgraphExec, CUgraphNode, CUstream, Out, UpdateResult};
use super::queue::Completion;
use super::state::{Driver, GraphUse, call};
use super::status::{Result, Status};
use super::stream::Captured;
use super::table::new_handle;
use super::work::{End, Work};

/// A graph as data.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// In an order in which they can run.
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub handle: CUgraphNode,
    /// Indices of the nodes it waits for, all smaller than its own.
    pub after: Vec<usize>,
    pub work: Work,
}

/// An instantiated graph.
#[derive(Debug)]
pub struct GraphExec {
    pub nodes: Vec<Node>,
    /// Memory that a launch left allocated is freed by the next.
    auto_free: bool,
    flags: u64,
    /// The end of its last launch: launches of one graph do not overlap.
    last: Option<Arc<Completion>>,
}

const AUTO_FREE: u64 = 1;
const DEVICE_LAUNCH: u64 = 4;
const INSTANTIATE_FLAGS: u64 = 0xf;

impl Graph {
    /// Adds a node and returns its index.
    pub fn add(&mut self, after: Vec<usize>, work: Work) -> usize {
        self.nodes.push(Node { handle: new_handle(), after, work });
        self.nodes.len() - 1
    }

    /// The given nodes and all that they wait for.
    pub fn ancestors(&self, of: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut stack = of.to_vec();
        while let Some(n) = stack.pop() {
            if found.insert(n) {
                stack.extend(&self.nodes[n].after);
            }
        }
        found
    }
}

impl Work {
    /// `CUgraphNodeType`.
    pub fn node_type(&self) -> c_uint {
        match self {
            Self::Kernel(_) => 0,
            Self::Copy(_) => 1,
            Self::Fill(_) => 2,
            Self::Host(_) => 3,
            Self::Marker => 5,
            Self::Record(_) => 7,
            Self::Open(_) => 10,
            Self::Close(_) | Self::Free(_) => 11,
        }
    }
}

/// Nodes that no other waits for.
fn leaves(nodes: &[Node]) -> Vec<usize> {
    let waited: BTreeSet<usize> = nodes.iter().flat_map(|n| n.after.iter().copied()).collect();
    (0..nodes.len()).filter(|n| !waited.contains(n)).collect()
}

impl Driver {
    /// Memory of graphs that no graph refers to any more: freed, or the program's to free if the last
    /// launch left it allocated.
    pub fn collect_graph_memory(&mut self) {
        let graphs = self.graphs.iter().map(|(_, g)| &g.nodes);
        let execs = self.execs.iter().map(|(_, e)| &e.nodes);
        let captures = self.captures.iter().map(|(_, c)| &c.graph.nodes);
        let used: BTreeSet<u64> = graphs
            .chain(execs)
            .chain(captures)
            .flatten()
            .filter_map(|n| if let Work::Open(address) = n.work { Some(address) } else { None })
            .collect();
        let mut idle = Vec::new();
        for (&address, owner) in self.owners.iter_mut().filter(|(a, _)| !used.contains(a)) {
            match owner.graph {
                GraphUse::Idle => idle.push((address, owner.context)),
                GraphUse::Live => owner.graph = GraphUse::No,
                GraphUse::No => {}
            }
        }
        for (address, context) in idle {
            // Work that uses it may be pending. A fault is told by the next call that waits.
            let _ = self.run_context(context);
            self.release(address, crate::memory::Home::Device, "the end of its graph");
        }
    }

    /// Books what a launch does to the graph's memory; refuses one that would allocate twice.
    fn launch_memory(&mut self, exec: CUgraphExec) -> Result<Vec<u64>> {
        let exec = self.execs.get(exec)?;
        let mut freed_first = Vec::new();
        for node in &exec.nodes {
            if let Work::Open(address) = node.work
                && self.owners.get(&address).is_some_and(|o| o.graph == GraphUse::Live)
            {
                if !exec.auto_free {
                    return Status::INVALID_VALUE.because(format!(
                        "the last launch left {address:#x} allocated; free it, or instantiate with \
                         CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH"
                    ));
                }
                freed_first.push(address);
            }
        }
        for node in &exec.nodes {
            let (address, now) = match node.work {
                Work::Open(address) => (address, GraphUse::Live),
                Work::Close(address) => (address, GraphUse::Idle),
                _ => continue,
            };
            if let Some(owner) = self.owners.get_mut(&address) {
                owner.graph = now;
            }
        }
        Ok(freed_first)
    }

    fn launch_graph(&mut self, exec: CUgraphExec, stream: CUstream) -> Result {
        self.execs.get(exec)?;
        let stream = self.stream(stream)?;
        if self.streams.get(stream)?.capture.is_some() {
            return self.capture_graph(exec, stream);
        }
        self.refuse_implicit(stream)?;
        let freed_first = self.launch_memory(exec)?;
        let mut start = self.points(stream)?;
        start.extend(self.execs.get(exec)?.last.clone());
        let context = self.streams.get(stream)?.context;
        for address in freed_first {
            let done = self.queue.push(context, Work::Close(address), start);
            start = vec![done];
        }
        let nodes = self.execs.get(exec)?.nodes.clone();
        let mut done: Vec<Arc<Completion>> = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let after = match node.after.as_slice() {
                [] => start.clone(),
                after => after.iter().map(|&n| done[n].clone()).collect(),
            };
            let point = self.queue.push(context, self.staged(&node.work), after);
            if let Work::Record(event) = node.work
                && let Ok(event) = self.events.get_mut(event)
            {
                event.recorded = super::event::Recorded::Done(point.clone());
            }
            done.push(point);
        }
        let mut ends: Vec<_> = leaves(&nodes).into_iter().map(|n| done[n].clone()).collect();
        if ends.is_empty() {
            ends = start;
        }
        let end = self.queue.push(context, Work::Marker, ends);
        self.execs.get_mut(exec)?.last = Some(end.clone());
        self.streams.get_mut(stream)?.tail = Some(end);
        self.relieve();
        Ok(())
    }

    /// A graph launched in a capturing stream: its nodes become part of the graph.
    fn capture_graph(&mut self, exec: CUgraphExec, stream: CUstream) -> Result {
        let captured = self.captured(stream)?;
        self.check_capture(captured.capture)?;
        let nodes = self.execs.get(exec)?.nodes.clone();
        let graph = &mut self.captures.get_mut(captured.capture)?.graph;
        let first = graph.nodes.len();
        for node in &nodes {
            let after = match node.after.as_slice() {
                [] => captured.after.clone(),
                after => after.iter().map(|n| first + n).collect(),
            };
            graph.add(after, node.work.clone());
        }
        let after = match leaves(&nodes) {
            ends if ends.is_empty() => captured.after,
            ends => ends.into_iter().map(|n| first + n).collect(),
        };
        self.set_captured(stream, Captured { capture: captured.capture, after })
    }

    /// A node's work as one launch does it: pageable memory is read when the launch is asked for.
    fn staged(&self, work: &Work) -> Work {
        let mut work = work.clone();
        if let Work::Copy(copy) = &mut work
            && let End::Host(from) = copy.from
            && matches!(copy.to, End::Device(_))
        {
            copy.from = self.stage(from, copy.bytes);
        }
        work
    }

    /// Takes over what may differ between two graphs of one shape.
    fn update_exec(&mut self, exec: CUgraphExec, graph: CUgraph) -> Result<UpdateResult> {
        let new = &self.graphs.get(graph)?.nodes;
        let old = &mut self.execs.get_mut(exec)?.nodes;
        if new.len() != old.len() {
            return Ok(UpdateResult {
                result: TOPOLOGY_CHANGED,
                error_node: 0,
                error_from_node: 0,
            });
        }
        for (n, o) in new.iter().zip(old.iter()) {
            let result = if n.work.node_type() != o.work.node_type() {
                NODE_TYPE_CHANGED
            } else if n.after != o.after {
                TOPOLOGY_CHANGED
            } else if !may_change(&o.work, &n.work) {
                PARAMETERS_CHANGED
            } else {
                continue;
            };
            return Ok(UpdateResult { result, error_node: n.handle, error_from_node: 0 });
        }
        for (n, o) in new.iter().zip(old.iter_mut()) {
            o.work = n.work.clone();
        }
        Ok(UpdateResult { result: 0, error_node: 0, error_from_node: 0 })
    }
}

const TOPOLOGY_CHANGED: c_uint = 2;
const NODE_TYPE_CHANGED: c_uint = 3;
const PARAMETERS_CHANGED: c_uint = 5;

/// Copies may not change between what kinds of memory they go, nor memory nodes at all.
fn may_change(old: &Work, new: &Work) -> bool {
    let same = |a: &End, b: &End| std::mem::discriminant(a) == std::mem::discriminant(b);
    match (old, new) {
        (Work::Copy(a), Work::Copy(b)) => same(&a.from, &b.from) && same(&a.to, &b.to),
        (Work::Open(a) | Work::Close(a), Work::Open(b) | Work::Close(b)) => a == b,
        _ => true,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(out: Out<CUgraph>, flags: c_uint) -> Status {
    call("cuGraphCreate", |d| {
        if flags != 0 {
            return Status::INVALID_VALUE.because("the flags of cuGraphCreate are 0");
        }
        out.required()?;
        out.set(d.graphs.add(Graph::default()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: CUgraph) -> Status {
    call("cuGraphDestroy", |d| {
        d.graphs.remove(graph)?;
        d.collect_graph_memory();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    out: Out<CUgraphExec>,
    graph: CUgraph,
    flags: c_ulonglong,
) -> Status {
    call("cuGraphInstantiateWithFlags", |d| {
        out.required()?;
        let nodes = d.graphs.get(graph)?.nodes.clone();
        if flags & !INSTANTIATE_FLAGS != 0
            || flags & (AUTO_FREE | DEVICE_LAUNCH) == AUTO_FREE | DEVICE_LAUNCH
        {
            return Status::INVALID_VALUE.because(format!(
                "instantiation flags {flags:#x} do not go together or are unknown"
            ));
        }
        if flags & DEVICE_LAUNCH != 0 {
            return Status::NOT_SUPPORTED
                .because("launching graphs from the device is not simulated");
        }
        let auto_free = flags & AUTO_FREE != 0;
        out.set(d.execs.add(GraphExec { nodes, auto_free, flags, last: None }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecGetFlags(exec: CUgraphExec, out: Out<u64>) -> Status {
    call("cuGraphExecGetFlags", |d| out.set(d.execs.get(exec)?.flags))
}

/// Waits for its launches.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: CUgraphExec) -> Status {
    call("cuGraphExecDestroy", |d| {
        let last = d.execs.remove(exec)?.last;
        if let Ok(context) = d.current() {
            d.run_until(context, last.as_slice())?;
        }
        d.collect_graph_memory();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) -> Status {
    call("cuGraphLaunch", |d| d.launch_graph(exec, stream))
}

/// There is nothing to upload; the arguments are checked.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: CUgraphExec, stream: CUstream) -> Status {
    call("cuGraphUpload", |d| {
        d.execs.get(exec)?;
        let stream = d.stream(stream)?;
        d.refuse_implicit(stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecUpdate_v2(
    exec: CUgraphExec,
    graph: CUgraph,
    out: Out<UpdateResult>,
) -> Status {
    call("cuGraphExecUpdate_v2", |d| {
        out.required()?;
        let result = d.update_exec(exec, graph)?;
        out.set(result)?;
        match result.result {
            0 => Ok(()),
            code => Status::GRAPH_EXEC_UPDATE_FAILURE
                .because(format!("the graph differs too much (CUgraphExecUpdateResult {code})")),
        }
    })
}
