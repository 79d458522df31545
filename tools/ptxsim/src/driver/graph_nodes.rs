//! Graphs node by node: adding, listing, and changing the parameters of kernels.

use std::ffi::c_uint;
use std::sync::Arc;

use super::abi::{
    CUcontext, CUevent, CUgraph, CUgraphExec, CUgraphNode, Edge, In, KernelNodeParams,
    MemsetNodeParams, Out,
};
use super::graph::{Graph, Node};
use super::launch::{Params, Shape};
use super::state::{Driver, call};
use super::status::{Result, Status};
use super::work::{Fill, KernelCall, Work};

impl Driver {
    fn node(&self, handle: CUgraphNode) -> Result<(&Graph, &Node)> {
        let found = self
            .graphs
            .iter()
            .find_map(|(_, g)| Some((g, g.nodes.iter().find(|n| n.handle == handle)?)));
        found.ok_or(()).or_else(|()| {
            Status::INVALID_VALUE.because(format!("expected a graph's node, found {handle:#x}"))
        })
    }

    fn add_node(
        &mut self,
        graph: CUgraph,
        after: In<CUgraphNode>,
        count: usize,
        work: Work,
    ) -> Result<CUgraphNode> {
        let after = after.list(count)?;
        let graph = self.graphs.get_mut(graph)?;
        let index = |handle: &CUgraphNode| graph.nodes.iter().position(|n| n.handle == *handle);
        let Some(mut after) = after.iter().map(index).collect::<Option<Vec<_>>>() else {
            return Status::INVALID_VALUE.because("a dependency is no node of this graph");
        };
        after.sort_unstable();
        if after.windows(2).any(|w| w[0] == w[1]) {
            return Status::INVALID_VALUE.because("a dependency is given twice");
        }
        let added = graph.add(after, work);
        Ok(graph.nodes[added].handle)
    }

    /// A node waits for another. With a programmatic edge alone, a kernel may start before that one ends.
    fn add_edge(
        &mut self,
        graph: CUgraph,
        from: CUgraphNode,
        to: CUgraphNode,
        edge: Edge,
    ) -> Result {
        let nodes = &mut self.graphs.get_mut(graph)?.nodes;
        let index = |handle: CUgraphNode| nodes.iter().position(|n| n.handle == handle);
        let (Some(from), Some(to)) = (index(from), index(to)) else {
            return Status::INVALID_VALUE.because("an end of the edge is no node of this graph");
        };
        if from >= to {
            return Status::NOT_SUPPORTED.because("an edge to a node that was added earlier");
        }
        if nodes[to].after.contains(&from) {
            return Status::INVALID_VALUE.because("there is such an edge already");
        }
        let programmatic = match (edge.kind, edge.from_port) {
            (0, 0) => false,
            (1, 1 | 2) => true,
            (kind, port) => {
                return Status::INVALID_VALUE
                    .because(format!("there is no edge of type {kind} from port {port}"));
            }
        };
        let alone = nodes[to].after.is_empty();
        let from_kernel = matches!(nodes[from].work, Work::Kernel(_));
        match &mut nodes[to].work {
            Work::Kernel(call) if !programmatic || from_kernel => {
                let call = Arc::make_mut(call);
                call.early = programmatic && (alone || call.early);
            }
            _ if programmatic => {
                return Status::INVALID_VALUE
                    .because("a programmatic edge leads from kernel to kernel");
            }
            _ => {}
        }
        nodes[to].after.push(from);
        nodes[to].after.sort_unstable();
        Ok(())
    }

    fn kernel_of_node(&self, params: &KernelNodeParams, early: bool) -> Result<Work> {
        if params.kernel != 0 {
            return Status::NOT_SUPPORTED.because("CUkernel is not simulated; pass a CUfunction");
        }
        let KernelNodeParams { function, grid, block, shared_bytes, .. } = *params;
        let shape = Shape { grid, block, shared_bytes, cooperative: false, early };
        // SAFETY: as in a launch, by the interface's contract.
        let (each, extra) =
            unsafe { (In::from_address(params.params), In::from_address(params.extra)) };
        Ok(Work::Kernel(Arc::new(self.prepare(function, shape, Params { each, extra })?)))
    }
}

fn kernel(work: &Work) -> Result<&Arc<KernelCall>> {
    match work {
        Work::Kernel(call) => Ok(call),
        _ => Status::INVALID_VALUE.because("the node is no kernel"),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEmptyNode(
    out: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
) -> Status {
    call("cuGraphAddEmptyNode", |d| {
        out.required()?;
        out.set(d.add_node(graph, after, count, Work::Marker)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEventRecordNode(
    out: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    event: CUevent,
) -> Status {
    call("cuGraphAddEventRecordNode", |d| {
        out.required()?;
        d.event(event)?;
        out.set(d.add_node(graph, after, count, Work::Record(event))?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode_v2(
    out: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<KernelNodeParams>,
) -> Status {
    call("cuGraphAddKernelNode_v2", |d| {
        out.required()?;
        let work = d.kernel_of_node(&params.get()?, false)?;
        out.set(d.add_node(graph, after, count, work)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemsetNode(
    out: Out<CUgraphNode>,
    graph: CUgraph,
    after: In<CUgraphNode>,
    count: usize,
    params: In<MemsetNodeParams>,
    context: CUcontext,
) -> Status {
    call("cuGraphAddMemsetNode", |d| {
        out.required()?;
        d.healthy(context)?;
        let p = params.get()?;
        if !matches!(p.element_bytes, 1 | 2 | 4) || p.width == 0 || p.height == 0 {
            return Status::INVALID_VALUE.because("expected elements of 1, 2 or 4 bytes, and some");
        }
        let pattern = p.value.to_le_bytes()[..p.element_bytes as usize].to_vec();
        let (width, height, pitch) = (p.width as u64, p.height as u64, p.pitch as u64);
        let fill = d.check_fill(Fill { to: p.to, pattern, width, height, pitch })?;
        out.set(d.add_node(graph, after, count, Work::Fill(fill))?)
    })
}

/// The nodes, as many as there is room for; and how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(
    graph: CUgraph,
    nodes: Out<CUgraphNode>,
    count: Out<usize>,
) -> Status {
    call("cuGraphGetNodes", |d| {
        let all: Vec<_> = d.graphs.get(graph)?.nodes.iter().map(|n| n.handle).collect();
        list(&all, nodes, count)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetRootNodes(
    graph: CUgraph,
    nodes: Out<CUgraphNode>,
    count: Out<usize>,
) -> Status {
    call("cuGraphGetRootNodes", |d| {
        let roots = d.graphs.get(graph)?.nodes.iter().filter(|n| n.after.is_empty());
        list(&roots.map(|n| n.handle).collect::<Vec<_>>(), nodes, count)
    })
}

/// Edges from nodes to others that were added after them.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: In<CUgraphNode>,
    to: In<CUgraphNode>,
    edges: In<Edge>,
    count: usize,
) -> Status {
    call("cuGraphAddDependencies_v2", |d| {
        let edges = if edges.is_null() { vec![Edge::FULL; count] } else { edges.list(count)? };
        let ends = from.list(count)?.into_iter().zip(to.list(count)?);
        for ((from, to), edge) in ends.zip(edges) {
            d.add_edge(graph, from, to, edge)?;
        }
        Ok(())
    })
}

/// The nodes that one waits for.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetDependencies_v2(
    node: CUgraphNode,
    nodes: Out<CUgraphNode>,
    edges: Out<Edge>,
    count: Out<usize>,
) -> Status {
    call("cuGraphNodeGetDependencies_v2", |d| {
        let (graph, node) = d.node(node)?;
        if !edges.is_null() && !nodes.is_null() {
            let early = kernel(&node.work).is_ok_and(|kernel| kernel.early);
            let edge = if early { Edge::PROGRAMMATIC } else { Edge::FULL };
            edges.fill(node.after.iter().map(|_| edge), count.get()?);
        }
        let all: Vec<_> = node.after.iter().map(|&n| graph.nodes[n].handle).collect();
        list(&all, nodes, count)
    })
}

fn list(all: &[CUgraphNode], nodes: Out<CUgraphNode>, count: Out<usize>) -> Result {
    if nodes.is_null() {
        return count.set(all.len());
    }
    let room = count.get()?;
    // What is asked for beyond the last is set to null, as documented.
    nodes.fill(all.iter().copied().chain(std::iter::repeat(0)), room);
    count.set(room.min(all.len()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetType(node: CUgraphNode, out: Out<c_uint>) -> Status {
    call("cuGraphNodeGetType", |d| out.set(d.node(node)?.1.work.node_type()))
}

/// The pointers to parameters are valid until the node changes.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeGetParams_v2(
    node: CUgraphNode,
    out: Out<KernelNodeParams>,
) -> Status {
    call("cuGraphKernelNodeGetParams_v2", |d| {
        let call = kernel(&d.node(node)?.1.work)?;
        out.set(KernelNodeParams {
            function: call.function,
            grid: call.grid,
            block: call.block,
            shared_bytes: call.shared_bytes,
            params: call.pointers.as_ptr() as usize,
            extra: 0,
            kernel: 0,
            context: d.functions.get(call.function).map_or(0, |f| f.context),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphKernelNodeSetParams_v2(
    node: CUgraphNode,
    params: In<KernelNodeParams>,
) -> Status {
    call("cuGraphKernelNodeSetParams_v2", |d| {
        let early = kernel(&d.node(node)?.1.work)?.early;
        let work = d.kernel_of_node(&params.get()?, early)?;
        let nodes = d.graphs.values_mut().flat_map(|g| &mut g.nodes);
        nodes.filter(|n| n.handle == node).for_each(|n| n.work = work.clone());
        Ok(())
    })
}

/// Changes a kernel of an instantiated graph, named by the node it was made from.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<KernelNodeParams>,
) -> Status {
    call("cuGraphExecKernelNodeSetParams_v2", |d| {
        let at = d.execs.get(exec)?.nodes.iter().position(|n| n.handle == node);
        let Some(at) = at else {
            return Status::INVALID_VALUE.because("the graph was not instantiated from this node");
        };
        let early = kernel(&d.execs.get(exec)?.nodes[at].work)?.early;
        let work = d.kernel_of_node(&params.get()?, early)?;
        d.execs.get_mut(exec)?.nodes[at].work = work;
        Ok(())
    })
}
