// Atomics of every kind, fences, printf, assertions and traps.

extern "C" __global__ void integers(int* cells, unsigned* words, unsigned long long* longs) {
    int t = threadIdx.x;
    atomicAdd(cells + 0, t);
    atomicSub(cells + 1, t);
    atomicMin(cells + 2, t);
    atomicMax(cells + 3, -t);
    atomicAnd(words + 0, ~(1u << (t & 31)));
    atomicOr(words + 1, 1u << (t & 31));
    atomicXor(words + 2, t);
    atomicInc(words + 3, 10);
    atomicDec(words + 4, 10);
    atomicMax(words + 5, static_cast<unsigned>(t));
    int old = atomicExch(cells + 4, t);
    atomicCAS(cells + 5, old, t);
    atomicAdd(longs + 0, static_cast<unsigned long long>(t) << 32);
    atomicMin(longs + 1, static_cast<unsigned long long>(t));
    atomicCAS(longs + 2, 0ull, static_cast<unsigned long long>(t));
    __threadfence();
    atomicAdd_block(cells + 6, 1);
    atomicAdd_system(cells + 7, 1);
}

extern "C" __global__ void floats(float* f, double* d) {
    __shared__ float local;
    __shared__ int counter;
    if (threadIdx.x == 0) local = 0.0f, counter = 0;
    __syncthreads();
    atomicAdd(&local, 1.0f);
    int place = atomicAdd(&counter, 1);
    __syncthreads();
    if (place == 0) {
        atomicAdd(f, local);
        atomicAdd(d, static_cast<double>(local));
    }
    __threadfence_block();
    __threadfence_system();
}

// The last block to arrive sums what the others left.
__device__ unsigned arrived = 0;
extern "C" __global__ void last_block(const float* x, float* partial, float* total, int n) {
    __shared__ bool is_last;
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffff, sum, distance);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        is_last = atomicInc(&arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last && threadIdx.x == 0) {
        float all = 0.0f;
        for (int block = 0; block < gridDim.x; block++) all += *static_cast<volatile float*>(partial + block);
        *total = all;
    }
}

extern "C" __global__ void speak(int n, double x) {
    if (threadIdx.x < n) printf("thread %d of %u: %f %s\n", threadIdx.x, blockDim.x, x * threadIdx.x, "done");
}

extern "C" __global__ void demand(const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    assert(i < n);
    if (x[i] < 0) __trap();
}
