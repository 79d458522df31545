//! Random programs over several streams that wait where they must: for every seed they do what they
//! would do one operation after the other.

use proptest::prelude::*;

use crate::abi::*;

const STREAMS: usize = 3;
const BUFFERS: usize = 4;
const BYTES: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Fill {
        stream: usize,
        buffer: usize,
        value: u8,
    },
    Copy {
        stream: usize,
        from: usize,
        to: usize,
    },
    Add {
        stream: usize,
        buffer: usize,
    },
    /// The host reads: waits for one stream only.
    Read {
        buffer: usize,
    },
    /// The program asks how far a stream is.
    Query {
        stream: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (s, b) = (0..STREAMS, 0..BUFFERS);
    let step = prop_oneof![
        (s.clone(), b.clone(), any::<u8>()).prop_map(|(stream, buffer, value)| Step::Fill {
            stream,
            buffer,
            value
        }),
        (s.clone(), b.clone(), b.clone()).prop_map(|(stream, from, to)| Step::Copy {
            stream,
            from,
            to
        }),
        (s.clone(), b.clone()).prop_map(|(stream, buffer)| Step::Add { stream, buffer }),
        b.prop_map(|buffer| Step::Read { buffer }),
        s.prop_map(|stream| Step::Query { stream }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What a careful program keeps for each buffer: an event after every operation that used it.
#[derive(Default, Clone)]
struct Uses {
    last_write: Option<usize>,
    reads_since: Vec<usize>,
}

impl Uses {
    fn before_read(&self) -> Vec<usize> {
        self.last_write.into_iter().collect()
    }

    fn before_write(&self) -> Vec<usize> {
        self.last_write.into_iter().chain(self.reads_since.iter().copied()).collect()
    }
}

fn run(steps: &[Step], seed: u64, flags: u32) {
    let gpu = gpu_with(|o| o.seed = seed);
    let streams: Vec<usize> = (0..STREAMS).map(|_| make(|s| cuStreamCreate(s, flags))).collect();
    let buffers: Vec<u64> = (0..BUFFERS).map(|_| gpu.alloc(BYTES)).collect();
    let add = function(c"add_one");
    let mut uses = vec![Uses::default(); BUFFERS];
    let mut model = [[0_u8; BYTES]; BUFFERS];
    for &buffer in &buffers {
        assert_eq!(cuMemsetD8_v2(buffer, 0, BYTES), OK);
    }
    assert_eq!(cuCtxSynchronize(), OK);
    let on = |stream: usize, after: Vec<usize>, work: &dyn Fn(usize) -> u32| {
        for event in after {
            assert_eq!(cuStreamWaitEvent(streams[stream], event, 0), OK);
        }
        assert_eq!(work(streams[stream]), OK);
        let event = make(|e| cuEventCreate(e, 2));
        assert_eq!(cuEventRecord(event, streams[stream]), OK);
        event
    };
    let wrote =
        |uses: &mut Uses, event| *uses = Uses { last_write: Some(event), reads_since: vec![] };
    for step in steps {
        match *step {
            Step::Fill { stream, buffer, value } => {
                let event = on(stream, uses[buffer].before_write(), &|s| {
                    cuMemsetD8Async(buffers[buffer], value, BYTES, s)
                });
                wrote(&mut uses[buffer], event);
                model[buffer] = [value; BYTES];
            }
            Step::Copy { stream, from, to } if from != to => {
                let mut after = uses[to].before_write();
                after.extend(uses[from].before_read());
                let event = on(stream, after, &|s| {
                    cuMemcpyDtoDAsync_v2(buffers[to], buffers[from], BYTES, s)
                });
                uses[from].reads_since.push(event);
                wrote(&mut uses[to], event);
                model[to] = model[from];
            }
            Step::Copy { .. } => {}
            Step::Add { stream, buffer } => {
                let event = on(stream, uses[buffer].before_write(), &|s| {
                    launch(add, s, &[buffers[buffer], BYTES as u64])
                });
                wrote(&mut uses[buffer], event);
                model[buffer] = model[buffer].map(|b| b.wrapping_add(1));
            }
            Step::Read { buffer } => {
                if let Some(event) = uses[buffer].last_write {
                    assert_eq!(cuEventSynchronize(event), OK);
                }
                assert_eq!(gpu.read(buffers[buffer], BYTES), model[buffer]);
            }
            Step::Query { stream } => {
                assert!([OK, NOT_READY].contains(&cuStreamQuery(streams[stream])));
            }
        }
    }
    assert_eq!(cuCtxSynchronize(), OK);
    for (buffer, model) in buffers.iter().zip(model) {
        assert_eq!(gpu.read(*buffer, BYTES), model);
    }
    assert_eq!(gpu.kinds(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn careful_programs_are_never_wrong(steps in steps(), seed in any::<u64>(), flags in 0..2_u32) {
        run(&steps, 0, flags);
        run(&steps, seed, flags);
    }
}
