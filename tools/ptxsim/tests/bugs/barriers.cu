// Planted errors of barriers and of what a warp does together, each with its mended twin. `// BUG` marks
// where they show.

// Half a warp turns off before the barrier.
extern "C" __global__ void divergent_bug(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x;
    cells[t] = in[t];
    if (t >= 16) {
        __syncthreads();                                // BUG
    }
    out[t] = cells[t ^ 1];
}

extern "C" __global__ void divergent_fixed(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x;
    cells[t] = in[t];
    __syncthreads();
    out[t] = cells[t ^ 1];
}

// Two halves of the block meet, and do not agree on how many they are: one may pass too soon.
extern "C" __global__ void mismatch_bug(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x;
    if (t < 128) {
        cells[t] = in[t];                               // BUG
        asm volatile("barrier.cta.sync 1, 256;" ::: "memory"); // BUG
    } else {
        asm volatile("barrier.cta.sync 1, 128;" ::: "memory"); // BUG
        out[t] = cells[t - 128];                        // BUG
    }
}

extern "C" __global__ void mismatch_fixed(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x;
    if (t < 128) {
        cells[t] = in[t];
        asm volatile("barrier.cta.sync 1, 256;" ::: "memory");
    } else {
        asm volatile("barrier.cta.sync 1, 256;" ::: "memory");
        out[t] = cells[t - 128];
    }
}

// The lower half of a warp asks the upper half, which is not there.
extern "C" __global__ void inactive_bug(const int* in, int* out) {
    int t = threadIdx.x, v = in[t];
    if (t % 32 < 16) v += __shfl_sync(0xffff, v, t % 32 + 16); // BUG
    out[t] = v;
}

extern "C" __global__ void inactive_fixed(const int* in, int* out) {
    int t = threadIdx.x, v = in[t];
    int other = __shfl_sync(0xffffffff, v, t % 32 + 16);
    if (t % 32 < 16) v += other;
    out[t] = v;
}

// The whole warp executes what its mask says is for the lower half.
extern "C" __global__ void mask_bug(const int* in, int* out) {
    int t = threadIdx.x;
    out[t] = __shfl_xor_sync(0xffff, in[t], 1);         // BUG
}

extern "C" __global__ void mask_fixed(const int* in, int* out) {
    int t = threadIdx.x;
    out[t] = __shfl_xor_sync(0xffffffff, in[t], 1);
}

// The mask names lanes that are alive and never come.
extern "C" __global__ void absent_bug(const int* in, int* out) {
    int t = threadIdx.x, v = in[t];
    if (t % 32 < 24) v = __reduce_add_sync(0xffffffff, v); // BUG
    out[t] = v;
}

extern "C" __global__ void absent_fixed(const int* in, int* out) {
    int t = threadIdx.x, v = in[t];
    if (t % 32 < 24) v = __reduce_add_sync(0x00ffffff, v);
    out[t] = v;
}
