//! Why memory is not written yet: work that was asked for earlier and that nothing orders before.

use std::sync::Arc;

use super::queue::Completion;
use super::state::Driver;
use super::work::{Copy, End, Fill, KernelCall, Work};
use crate::finding::Kind;

impl Driver {
    /// Earlier work than `now` that would write the byte and has not run, in words; else nothing.
    pub(super) fn pending_writer(&self, address: u64, now: &Completion) -> String {
        let writer = self.queue.earlier(now).find_map(|work| match work {
            Work::Copy(Copy { to: End::Device(to), bytes, .. }) => {
                (*to..to + bytes).contains(&address).then(|| "a copy".to_owned())
            }
            Work::Fill(Fill { to, pattern, width, height, pitch }) => {
                let last = to + (height - 1) * pitch + width * pattern.len() as u64;
                (*to..last).contains(&address).then(|| "a memset".to_owned())
            }
            Work::Kernel(call) => self.has_pointer(call, address).then(|| {
                format!(
                    "kernel {}, which has a pointer there,",
                    call.program.kernels()[call.kernel].name
                )
            }),
            _ => None,
        });
        let because = |writer| {
            format!(
                "; {writer} was asked for earlier, but no stream or event orders it before this"
            )
        };
        writer.map_or(String::new(), because)
    }

    /// Adds to what a kernel's launch has found, from the `first` on, which work was not waited for.
    pub(super) fn blame_pending(&self, first: usize, now: &Arc<Completion>) {
        self.findings.amend(first, |finding| {
            let address = finding.place.as_ref().and_then(|place| place.address);
            if let (Kind::UninitialisedRead, Some(address)) = (finding.kind, address) {
                finding.message += &self.pending_writer(address, now);
            }
        });
    }

    /// Whether a parameter of the launch points into the allocation of the byte.
    fn has_pointer(&self, call: &KernelCall, address: u64) -> bool {
        let Some(allocation) = self.memory.find(address) else { return false };
        let inside = allocation.address..allocation.address + allocation.bytes;
        call.params.chunks_exact(8).any(|bytes| {
            let value = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            inside.contains(&value)
        })
    }
}
