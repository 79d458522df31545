//! The C interface: [`muse`] as handles, structs that can grow, and status codes. `muse.h` is made of this crate,
//! whose comments are therefore written for C programs.
#![deny(missing_docs)]

mod engine;
mod images;
pub mod numbers;
mod request;
mod sized;
mod status;
mod step;

use std::ffi::{CStr, c_char};

/// MUSE_ABI_VERSION of the library that is loaded; it must be that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn muse_abi_version() -> u32 {
    numbers::MUSE_ABI_VERSION
}

/// Version of the library, as "0.1.0". Never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn muse_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    const TEXT: &CStr = match CStr::from_bytes_with_nul(VERSION.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a version has no NUL"),
    };
    TEXT.as_ptr()
}
