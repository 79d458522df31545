// Planted races, each with its mended twin. `// BUG` marks where they show: both accesses of a race,
// since either may come second.

// A tile is read back before every warp has written it.
extern "C" __global__ void write_read_bug(const int* in, int* out) {
    __shared__ int tile[256];
    int t = threadIdx.x;
    tile[t] = in[t];                                    // BUG
    out[blockIdx.x * 256 + t] = tile[255 - t];          // BUG
}

extern "C" __global__ void write_read_fixed(const int* in, int* out) {
    __shared__ int tile[256];
    int t = threadIdx.x;
    tile[t] = in[t];
    __syncthreads();
    out[blockIdx.x * 256 + t] = tile[255 - t];
}

// The next round overwrites a tile that slower warps still read.
extern "C" __global__ void reuse_bug(const int* in, int* out) {
    __shared__ int tile[256];
    int t = threadIdx.x, sum = 0;
#pragma unroll 1
    for (int round = 0; round < 3; round++) {
        tile[t] = in[round * 256 + t];                  // BUG
        __syncthreads();
        sum += tile[255 - t];                           // BUG
    }
    out[blockIdx.x * 256 + t] = sum;
}

extern "C" __global__ void reuse_fixed(const int* in, int* out) {
    __shared__ int tile[256];
    int t = threadIdx.x, sum = 0;
#pragma unroll 1
    for (int round = 0; round < 3; round++) {
        tile[t] = in[round * 256 + t];
        __syncthreads();
        sum += tile[255 - t];
        __syncthreads();
    }
    out[blockIdx.x * 256 + t] = sum;
}

// Lanes of a warp exchange words through shared memory as if they ran in lockstep.
extern "C" __global__ void lockstep_bug(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x, warp = t & ~31, lane = t & 31;
    cells[t] = in[t];                                   // BUG
    out[blockIdx.x * 256 + t] = cells[warp + 31 - lane]; // BUG
}

extern "C" __global__ void lockstep_fixed(const int* in, int* out) {
    __shared__ int cells[256];
    int t = threadIdx.x, warp = t & ~31, lane = t & 31;
    cells[t] = in[t];
    __syncwarp();
    out[blockIdx.x * 256 + t] = cells[warp + 31 - lane];
}

// Every block but the first takes what its neighbour may not have written yet.
extern "C" __global__ void neighbour_bug(const int* in, int* out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    int before = blockIdx.x > 0 ? out[i - 256] : 0;     // BUG
    out[i] = in[threadIdx.x] + before;                  // BUG
}

extern "C" __global__ void neighbour_fixed(const int* in, int* out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    int before = blockIdx.x > 0 ? in[threadIdx.x] * blockIdx.x : 0;
    out[i] = in[threadIdx.x] + before;
}

// Blocks add to one sum without an atomic operation.
extern "C" __global__ void plain_add_bug(const int* in, int* out) {
    if (threadIdx.x == 0) out[0] += in[blockIdx.x];     // BUG
}

extern "C" __global__ void plain_add_fixed(const int* in, int* out) {
    if (threadIdx.x == 0) atomicAdd(out, in[blockIdx.x]);
}
