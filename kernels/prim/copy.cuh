// Copies from global to shared memory that pass no registers and finish behind the computation.
#pragma once

// A shared address as the copy and matrix instructions take it.
__device__ __forceinline__ unsigned int shared_address(const void* p) {
    return static_cast<unsigned int>(__cvta_generic_to_shared(p));
}

// 16 bytes, both addresses multiples of 16; zeros, and nothing read, where not `inside`. Past L1: tiles
// are read once by a block.
__device__ __forceinline__ void cp_async16(unsigned int to, const void* from, bool inside = true) {
    const unsigned int bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

// Closes a group of copies.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `Left` of this thread's groups are under way.
template <int Left>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}
