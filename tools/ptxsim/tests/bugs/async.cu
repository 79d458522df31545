// Planted errors around asynchronous copies, each with its mended twin. `// BUG` marks where they show.

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void copy(int4* to, const int4* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
__device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// One more group is left under way than the stage about to be read allows.
extern "C" __global__ void lax_wait_bug(const int4* in, int* out) {
    __shared__ int4 stage[4][128];
    int t = threadIdx.x, sum = 0;
    copy(&stage[0][t], in + t);
    commit();
#pragma unroll 1
    for (int tile = 0; tile < 4; tile++) {
        if (tile < 3) copy(&stage[tile + 1][t], in + (tile + 1) * 128 + t);
        commit();
        wait<2>();
        __syncthreads();
        sum += stage[tile][127 - t].x;                  // BUG
        __syncthreads();
    }
    out[blockIdx.x * 128 + t] = sum;
}

extern "C" __global__ void lax_wait_fixed(const int4* in, int* out) {
    __shared__ int4 stage[4][128];
    int t = threadIdx.x, sum = 0;
    copy(&stage[0][t], in + t);
    commit();
#pragma unroll 1
    for (int tile = 0; tile < 4; tile++) {
        if (tile < 3) copy(&stage[tile + 1][t], in + (tile + 1) * 128 + t);
        commit();
        wait<1>();
        __syncthreads();
        sum += stage[tile][127 - t].x;
        __syncthreads();
    }
    out[blockIdx.x * 128 + t] = sum;
}

// A barrier orders threads, not their copies.
extern "C" __global__ void no_wait_bug(const int4* in, int* out) {
    __shared__ int4 stage[128];
    int t = threadIdx.x;
    copy(&stage[t], in + t);
    __syncthreads();
    out[blockIdx.x * 128 + t] = stage[127 - t].y;       // BUG
}

extern "C" __global__ void no_wait_fixed(const int4* in, int* out) {
    __shared__ int4 stage[128];
    int t = threadIdx.x;
    copy(&stage[t], in + t);
    commit();
    wait<0>();
    __syncthreads();
    out[blockIdx.x * 128 + t] = stage[127 - t].y;
}

// Rows of four chunks in a pitch of eight: chunks change places within their four. The reader's formula
// is that for rows of eight, and leads into the gap.
extern "C" __global__ void swizzle_bug(const int4* in, int* out) {
    __shared__ int4 tile[32 * 8];
    int t = threadIdx.x, row = t >> 2, chunk = t & 3;
    copy(&tile[row * 8 + (chunk ^ (row & 3))], in + t);
    commit();
    wait<0>();
    __syncthreads();
    out[blockIdx.x * 128 + t] = tile[row * 8 + (chunk ^ (row & 7))].z; // BUG
}

extern "C" __global__ void swizzle_fixed(const int4* in, int* out) {
    __shared__ int4 tile[32 * 8];
    int t = threadIdx.x, row = t >> 2, chunk = t & 3;
    copy(&tile[row * 8 + (chunk ^ (row & 3))], in + t);
    commit();
    wait<0>();
    __syncthreads();
    out[blockIdx.x * 128 + t] = tile[row * 8 + (chunk ^ (row & 3))].z;
}
