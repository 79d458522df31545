// Order between launches that overlap.
#pragma once

// First in every kernel, before it touches what another may have written: lets the blocks of the next launch
// start wherever there is room, so that they are there when their turn comes, and waits until all launches
// before have ended. Where no launch may start early (before Hopper, outside of graphs) it does nothing.
// Weights may be read before it: no launch writes them.
__device__ __forceinline__ void take_turn() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" ::: "memory");
#endif
}
