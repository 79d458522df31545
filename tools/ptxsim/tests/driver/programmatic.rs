//! Programmatic dependencies: what a kernel may touch before `griddepcontrol.wait`.

use std::ffi::CString;
use std::ptr::{null, null_mut};

use ptxsim::driver::engine::Executor;
use ptxsim::finding::Kind;

use crate::abi::*;

/// `CUgraphEdgeData`: from port 1, type 1.
const PROGRAMMATIC: u64 = 0x01_00_01;
const ATTRIBUTE: u32 = 6;

/// Kernels of one argument, an array: `write` stores to its words, `late` and `early` add to them after and
/// before a wait, `aside` stores 256 bytes further on before it.
const TEXT: &str = "
.version 8.0
.target sm_90
.address_size 64
.entry write(.param .u64 a) {
    .reg .b32 %r<4>; .reg .b64 %d<4>;
    START
    st.global.u32 [%d2], %r0;
    ret;
}
.entry late(.param .u64 a) {
    .reg .b32 %r<4>; .reg .b64 %d<4>;
    START
    griddepcontrol.wait;
    ld.global.u32 %r1, [%d2];
    add.u32 %r1, %r1, 1;
    st.global.u32 [%d2], %r1;
    ret;
}
.entry early(.param .u64 a) {
    .reg .b32 %r<4>; .reg .b64 %d<4>;
    START
    ld.global.u32 %r1, [%d2];
    griddepcontrol.wait;
    add.u32 %r1, %r1, 1;
    st.global.u32 [%d2], %r1;
    ret;
}
.entry aside(.param .u64 a) {
    .reg .b32 %r<4>; .reg .b64 %d<4>;
    START
    griddepcontrol.launch_dependents;
    st.global.u32 [%d2 + 256], %r0;
    griddepcontrol.wait;
    ret;
}
";

const START: &str = "mov.u32 %r0, %tid.x; ld.param.u64 %d0, [a]; cvta.to.global.u64 %d0, %d0; \
                     mul.wide.u32 %d1, %r0, 4; add.u64 %d2, %d0, %d1;";

struct Kernels {
    gpu: Gpu,
    module: usize,
    array: u64,
    stream: usize,
}

impl Kernels {
    fn new() -> Self {
        let gpu = gpu_of(Box::new(Executor), |_| ());
        let text = CString::new(TEXT.replace("START", START)).unwrap();
        let module = load(&text).unwrap();
        let (array, stream) = (gpu.alloc(512), gpu.stream());
        assert_eq!(cuMemsetD8_v2(array, 0, 512), OK);
        assert_eq!(cuCtxSynchronize(), OK);
        Self { gpu, module, array, stream }
    }

    fn function(&self, name: &str) -> usize {
        let name = CString::new(name).unwrap();
        // SAFETY: a string, and room for the handle.
        make(|f| unsafe { cuModuleGetFunction(f, self.module, name.as_ptr()) })
    }

    /// A graph of these kernels, each with such an edge to the next.
    fn graph(&self, kernels: &[&str], edge: u64) -> Vec<usize> {
        let mut graph = 0;
        assert_eq!(cuGraphCreate(&mut graph, 0), OK);
        let params = [self.array];
        let mut pointers = pointers(&params);
        let mut nodes: Vec<usize> = Vec::new();
        for name in kernels {
            let params = KernelNodeParams {
                function: self.function(name),
                grid: [1; 3],
                block: [64, 1, 1],
                shared: 0,
                params: pointers.as_mut_ptr(),
                extra: null_mut(),
                kernel: 0,
                context: 0,
            };
            let mut node = 0;
            // SAFETY: no dependencies; parameters are copied.
            let code = unsafe { cuGraphAddKernelNode_v2(&mut node, graph, null(), 0, &params) };
            assert_eq!(code, OK);
            if let Some(&before) = nodes.last() {
                // SAFETY: one of each.
                let code = unsafe { cuGraphAddDependencies_v2(graph, &before, &node, &edge, 1) };
                assert_eq!(code, OK);
            }
            nodes.push(node);
        }
        assert_eq!(cuGraphLaunch(instantiate(graph), self.stream), OK);
        assert_eq!(cuStreamSynchronize(self.stream), OK);
        nodes
    }

    fn kinds(&self) -> Vec<Kind> {
        self.gpu.kinds()
    }
}

#[test]
fn a_wait_orders_what_comes_after_it() {
    let k = Kernels::new();
    k.graph(&["write", "late", "late", "aside", "late"], PROGRAMMATIC);
    assert_eq!(k.kinds(), []);
    let words: Vec<u8> = k.gpu.read(k.array, 16);
    assert_eq!(words, [3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]);
}

#[test]
fn a_read_before_the_wait_is_a_race() {
    let k = Kernels::new();
    k.graph(&["write", "early"], PROGRAMMATIC);
    let found = k.gpu.findings();
    assert_eq!(k.kinds(), [Kind::GlobalRace]);
    assert!(found[0].message.contains("no griddepcontrol.wait before"), "{}", found[0]);
    assert_eq!(found[0].place.as_ref().unwrap().kernel, "early");
}

/// Also of a launch further back: the one between need not have waited for it.
#[test]
fn overlap_goes_back_to_the_last_full_edge() {
    let k = Kernels::new();
    k.graph(&["write", "aside", "early"], PROGRAMMATIC);
    assert_eq!(k.kinds(), [Kind::GlobalRace]);
    drop(k);
    let k = Kernels::new();
    k.graph(&["aside", "late"], PROGRAMMATIC);
    k.graph(&["early"], PROGRAMMATIC);
    assert_eq!(k.kinds(), []);
}

#[test]
fn a_write_before_the_wait_is_a_race_where_the_other_wrote() {
    let k = Kernels::new();
    k.graph(&["late", "write"], PROGRAMMATIC);
    assert_eq!(k.kinds(), [Kind::GlobalRace]);
}

#[test]
fn a_full_edge_waits() {
    let k = Kernels::new();
    let nodes = k.graph(&["write", "early"], 0);
    assert_eq!(k.kinds(), []);
    let (mut before, mut edge, mut count) = ([0], [9], 1);
    // SAFETY: room for one.
    let code = unsafe {
        cuGraphNodeGetDependencies_v2(nodes[1], before.as_mut_ptr(), edge.as_mut_ptr(), &mut count)
    };
    assert_eq!((code, before[0], edge[0]), (OK, nodes[0], 0));
}

/// The launch attribute does in a stream what the edge does in a graph.
#[test]
fn launches_of_a_stream_overlap_by_an_attribute() {
    for (allowed, expected) in [(0, vec![]), (1, vec![Kind::GlobalRace])] {
        let k = Kernels::new();
        let mut attributes = [0u32; 18];
        (attributes[0], attributes[2]) = (ATTRIBUTE, allowed);
        let params = [k.array];
        for name in ["write", "early"] {
            let config = LaunchConfig {
                grid: [1; 3],
                block: [64, 1, 1],
                shared: 0,
                stream: k.stream,
                attributes: attributes.as_ptr().cast(),
                count: 1,
            };
            let mut pointers = pointers(&params);
            // SAFETY: pointers to the parameters.
            let code = unsafe {
                cuLaunchKernelEx(&config, k.function(name), pointers.as_mut_ptr(), null_mut())
            };
            assert_eq!(code, OK);
        }
        assert_eq!(cuStreamSynchronize(k.stream), OK);
        assert_eq!(k.kinds(), expected);
    }
}

#[test]
fn edges_that_cannot_be() {
    let k = Kernels::new();
    let nodes = k.graph(&["write", "late"], PROGRAMMATIC);
    let mut graph = 0;
    assert_eq!(cuGraphCreate(&mut graph, 0), OK);
    let mut node = 0;
    // SAFETY: no dependencies.
    assert_eq!(unsafe { cuGraphAddEmptyNode(&mut node, graph, null(), 0) }, OK);
    let mut other = 0;
    // SAFETY: as above.
    assert_eq!(unsafe { cuGraphAddEmptyNode(&mut other, graph, null(), 0) }, OK);
    let add = |from: usize, to: usize, edge: u64| {
        // SAFETY: one of each.
        unsafe { cuGraphAddDependencies_v2(graph, &from, &to, &edge, 1) }
    };
    assert_eq!(add(nodes[0], node, 0), INVALID_VALUE);
    assert_eq!(add(node, other, PROGRAMMATIC), INVALID_VALUE);
    assert_eq!(add(node, other, 7 << 16), INVALID_VALUE);
    assert_eq!(add(other, node, 0), NOT_SUPPORTED);
    assert_eq!(add(node, other, 0), OK);
    assert_eq!(add(node, other, 0), INVALID_VALUE);
}
