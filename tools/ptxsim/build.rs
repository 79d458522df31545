//! Names the library as programs look for it, so that one loaded before under another path is found.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // cudarc looks for this name first; glibc matches it against the names of what is loaded already.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
