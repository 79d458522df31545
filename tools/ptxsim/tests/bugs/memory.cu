// Planted errors of addresses and of memory that nothing has written, each with its mended twin.
// `// BUG` marks where they show.

// One thread too many: `<=` for `<`.
extern "C" __global__ void past_end_bug(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = in[i % n];                     // BUG
}

extern "C" __global__ void past_end_fixed(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i % n];
}

// A stencil without its left border.
extern "C" __global__ void below_bug(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] - in[i - 1];              // BUG
}

extern "C" __global__ void below_fixed(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = i > 0 ? in[i] - in[i - 1] : 0;
}

// Four words at once from an odd place.
extern "C" __global__ void misaligned_bug(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i + 4 >= n) return;
    int4 v = *reinterpret_cast<const int4*>(in + 1 + 4 * i); // BUG
    out[i] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void misaligned_fixed(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i + 4 >= n) return;
    const int* v = in + 1 + 4 * i;
    out[i] = v[0] + v[1] + v[2] + v[3];
}

// Adds to an output that nobody has cleared.
extern "C" __global__ void global_bug(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] += in[i];                         // BUG
}

extern "C" __global__ void global_fixed(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];
}

// Eight warps leave their sums; the last step takes thirty-two.
extern "C" __global__ void shared_bug(const int* in, int* out, int n) {
    __shared__ int sums[32];
    int t = threadIdx.x, sum = __reduce_add_sync(0xffffffff, in[t % n]);
    if (t % 32 == 0) sums[t / 32] = sum;
    __syncthreads();
    if (t < 32) {
        sum = sums[t];                                  // BUG
        out[blockIdx.x * 32 + t] = __reduce_add_sync(0xffffffff, sum);
    }
}

extern "C" __global__ void shared_fixed(const int* in, int* out, int n) {
    __shared__ int sums[32];
    int t = threadIdx.x, sum = __reduce_add_sync(0xffffffff, in[t % n]);
    if (t % 32 == 0) sums[t / 32] = sum;
    __syncthreads();
    if (t < 32) {
        sum = t < blockDim.x / 32 ? sums[t] : 0;
        out[blockIdx.x * 32 + t] = __reduce_add_sync(0xffffffff, sum);
    }
}

// The last element of a local array stays as it was.
extern "C" __global__ void local_bug(const int* in, int* out, int n) {
    int mine[8], t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    for (int k = 0; k < 7; k++) mine[(k + t) & 7] = in[(t + k) % n];
    if (i < n) out[i] = mine[in[i] & 7];                // BUG
}

extern "C" __global__ void local_fixed(const int* in, int* out, int n) {
    int mine[8], t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    for (int k = 0; k < 8; k++) mine[(k + t) & 7] = in[(t + k) % n];
    if (i < n) out[i] = mine[in[i] & 7];
}

// A block larger than the array.
extern "C" __global__ void array_end_bug(const int* in, int* out, int n) {
    __shared__ int cells[240];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    cells[t] = in[t % n];                               // BUG
    __syncthreads();
    if (i < n) out[i] = cells[239 - t % 240];
}

extern "C" __global__ void array_end_fixed(const int* in, int* out, int n) {
    __shared__ int cells[240];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    if (t < 240) cells[t] = in[t % n];
    __syncthreads();
    if (i < n) out[i] = cells[239 - t % 240];
}

// Right by itself; wrong are launches with less dynamic shared memory than one word a thread.
extern "C" __global__ void reversed(const int* in, int* out, int n) {
    extern __shared__ int words[];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    words[t] = in[t % n];                               // BUG
    __syncthreads();
    if (i < n) out[i] = words[blockDim.x - 1 - t];
}

// Right by itself; wrong are launches on memory that is gone, or not yet written.
extern "C" __global__ void copied(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i];                          // BUG
}
