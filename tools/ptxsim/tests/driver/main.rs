//! The driver API as a C program calls it: success and error codes, order of work, captures, graphs.
//! Kernels come from a small engine of the tests (`toy`).

mod abi;
mod captures;
mod context;
mod copies;
mod events;
mod graphs;
mod launches;
mod memory;
mod misc;
mod modules;
mod order;
mod order_random;
mod pools;
mod programmatic;
mod toy;
