//! Device memory: one reserved address range with a shadow that knows, per byte, what may be read.
//!
//! A device address is the host address of its byte, so that the executor reads and writes it directly
//! after one look at the shadow. The range is reserved without storage (`memmap2`, no swap reserved);
//! pages appear when touched. Every allocation has red zones on both sides; freed ranges are kept back
//! for a while before they are used again, so that late accesses are seen.

/// State of a byte: what the executor's check compares, for all lanes at once.
pub const UNADDRESSABLE: u8 = 0;
pub const UNINITIALISED: u8 = 1;
pub const INITIALISED: u8 = 3;

/// Device memory.
#[derive(Debug)]
pub struct Memory {}
