// Pipelines on barriers in shared memory, without tensor copies: what Ampere and Hopper kernels do with them.

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void init(unsigned barrier, unsigned count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ unsigned long long arrive(unsigned barrier) {
    unsigned long long state;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(barrier) : "memory");
    return state;
}

__device__ __forceinline__ void arrive_drop(unsigned barrier) {
    unsigned long long state;
    asm volatile("mbarrier.arrive_drop.shared.b64 %0, [%1];" : "=l"(state) : "r"(barrier) : "memory");
}

__device__ __forceinline__ bool passed(unsigned barrier, unsigned parity) {
    unsigned done;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done;
}

__device__ __forceinline__ void wait(unsigned barrier, unsigned parity) {
    while (!passed(barrier, parity)) {
    }
}

// The first of four warps fills two stages in turn, the others take from them: out[t] = the sum over rows of
// in[row][(t * 7 + row) % 64], t of 96.
extern "C" __global__ void producer_consumer(const int* in, int* out, int rows) {
    __shared__ int stage[2][64];
    __shared__ unsigned long long full[2], empty[2];
    const int t = threadIdx.x;
    if (t < 2) {
        init(shared_address(&full[t]), 32);
        init(shared_address(&empty[t]), 96);
    }
    __syncthreads();
    int sum = 0;
    for (int row = 0; row < rows; row++) {
        const int s = row % 2;
        const unsigned parity = row / 2 % 2;
        if (t < 32) {
            wait(shared_address(&empty[s]), parity ^ 1);  // of the phase before: at first there was none
            stage[s][t] = in[row * 64 + t];
            stage[s][t + 32] = in[row * 64 + t + 32];
            arrive(shared_address(&full[s]));
        } else {
            wait(shared_address(&full[s]), parity);
            sum += stage[s][((t - 32) * 7 + row) % 64];
            arrive(shared_address(&empty[s]));
        }
    }
    if (t >= 32) out[blockIdx.x * 96 + t - 32] = sum;
}

// Asynchronous copies arrive by themselves when they have landed: out[t] = the sum over rows of
// in[row][127 - t].x, a row being 128 int4.
extern "C" __global__ void copies(const int4* in, int* out, int rows) {
    __shared__ int4 stage[2][128];
    __shared__ unsigned long long full[2];
    const int t = threadIdx.x;
    if (t < 2) init(shared_address(&full[t]), 128);
    __syncthreads();
    const auto load = [&](int row) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&stage[row % 2][t])),
                     "l"(in + row * 128 + t)
                     : "memory");
        asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&full[row % 2]))
                     : "memory");
    };
    load(0);
    int sum = 0;
    for (int row = 0; row < rows; row++) {
        if (row + 1 < rows) load(row + 1);
        wait(shared_address(&full[row % 2]), row / 2 % 2);
        sum += stage[row % 2][127 - t].x;
        __syncthreads();
    }
    out[blockIdx.x * 128 + t] = sum;
}

// Threads leave one after another: thread t takes part in rounds 0 .. t % 4. In each it reads what thread
// t | 3, which stays to the end, has written: out[t] = the sum over those rounds of in[round][t | 3].
extern "C" __global__ void leavers(const int* in, int* out) {
    __shared__ int slot[4][128];
    __shared__ unsigned long long barrier;
    const int t = threadIdx.x, last = t % 4;
    const unsigned at = shared_address(&barrier);
    if (t == 0) init(at, 128);
    __syncthreads();
    int sum = 0;
    for (int round = 0; round <= last; round++) {
        slot[round][t] = in[round * 128 + t];
        if (round < last)
            arrive(at);
        else
            arrive_drop(at);
        wait(at, round % 2);
        sum += slot[round][t | 3];
    }
    out[blockIdx.x * 128 + t] = sum;
}
