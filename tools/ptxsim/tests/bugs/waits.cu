// Planted errors around barriers in shared memory, each with its mended twin. `// BUG` marks where they show.

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void init(unsigned barrier, unsigned count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void arrive(unsigned barrier) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ unsigned test(unsigned barrier, unsigned parity) {
    unsigned done;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done;
}

__device__ __forceinline__ void wait(unsigned barrier, unsigned parity) {
    while (!test(barrier, parity)) {
    }
}

// A test is not a wait, for all its name.
extern "C" __global__ void one_test_bug(const int* in, int* out) {
    __shared__ int tile[256];
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 256);
    __syncthreads();
    tile[t] = in[t];                                    // BUG
    arrive(shared_address(&barrier));
    test(shared_address(&barrier), 0);
    out[blockIdx.x * 256 + t] = tile[255 - t];          // BUG
}

extern "C" __global__ void one_test_fixed(const int* in, int* out) {
    __shared__ int tile[256];
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 256);
    __syncthreads();
    tile[t] = in[t];
    arrive(shared_address(&barrier));
    wait(shared_address(&barrier), 0);
    out[blockIdx.x * 256 + t] = tile[255 - t];
}

// The threads arrive, their copies do not.
extern "C" __global__ void plain_arrival_bug(const int4* in, int* out) {
    __shared__ int4 stage[256];
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 256);
    __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&stage[t])), "l"(in + t) : "memory");
    arrive(shared_address(&barrier));
    wait(shared_address(&barrier), 0);
    out[blockIdx.x * 256 + t] = stage[255 - t].x;       // BUG
}

extern "C" __global__ void plain_arrival_fixed(const int4* in, int* out) {
    __shared__ int4 stage[256];
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 256);
    __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&stage[t])), "l"(in + t) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&barrier)) : "memory");
    wait(shared_address(&barrier), 0);
    out[blockIdx.x * 256 + t] = stage[255 - t].x;
}

// One arrival too few for the count: nobody ever passes.
extern "C" __global__ void short_count_bug(const int* in, int* out) {
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 257);
    __syncthreads();
    arrive(shared_address(&barrier));
    wait(shared_address(&barrier), 0);
    out[blockIdx.x * 256 + t] = in[t];
}

// An arrival too many.
extern "C" __global__ void long_count_bug(const int* in, int* out) {
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 255);
    __syncthreads();
    if (t < 254) asm volatile("{ .reg .b64 s; mbarrier.arrive.noComplete.shared.b64 s, [%0], 1; }" ::"r"(shared_address(&barrier)));
    __syncthreads();
    if (t == 0) asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0], 2; }" ::"r"(shared_address(&barrier)));  // BUG
    out[blockIdx.x * 256 + t] = in[t];
}

// Nobody has made a barrier of it.
extern "C" __global__ void no_init_bug(const int* in, int* out) {
    __shared__ unsigned long long barrier;
    arrive(shared_address(&barrier));
    out[blockIdx.x * 256 + threadIdx.x] = in[threadIdx.x];
}

// A plain store into the barrier's state.
extern "C" __global__ void plain_store_bug(const int* in, int* out) {
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x;
    if (t == 0) init(shared_address(&barrier), 256);
    __syncthreads();
    if (t == 5) *(volatile unsigned long long*)&barrier = 0;  // BUG
    __syncthreads();
    out[blockIdx.x * 256 + t] = in[t];
}
