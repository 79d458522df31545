// Blocks that wait for each other, as kernels of one launch for a whole problem do.

// A barrier of all blocks, as cooperative groups make it: the first block adds what turns the highest bit
// once all the others have added 1, and everyone waits for that bit.
__device__ void grid_barrier(unsigned* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned add = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1;
        __threadfence();
        unsigned old = atomicAdd(arrived, add);
        while (((old ^ *(volatile unsigned*)arrived) & 0x80000000u) == 0) {}
        __threadfence();
    }
    __syncthreads();
}

// Each round, every thread adds a word of another block's from the round before to its own.
extern "C" __global__ void rounds(unsigned* words, unsigned* other, unsigned* arrived, unsigned count) {
    unsigned n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
    for (unsigned round = 0; round < count; round++) {
        other[i] = words[i] + 3 * words[(i + blockDim.x + 1) % n];
        grid_barrier(arrived);
        unsigned* swap = words;
        words = other;
        other = swap;
    }
}

// A scan by decoupled look-back. The status of a tile is one word: 1 and its sum, then 2 and the sum of all
// tiles up to it.
extern "C" __global__ void look_back(const unsigned* in, unsigned* out, unsigned long long* status) {
    __shared__ unsigned values[128];
    __shared__ unsigned before;
    unsigned thread = threadIdx.x, tile = blockIdx.x, i = tile * 128 + thread;
    values[thread] = in[i];
    __syncthreads();
    for (unsigned step = 1; step < 128; step *= 2) {
        unsigned left = thread >= step ? values[thread - step] : 0;
        __syncthreads();
        values[thread] += left;
        __syncthreads();
    }
    if (thread == 0) {
        volatile unsigned long long* states = status;
        unsigned sum = values[127], prefix = 0;
        states[tile] = (tile == 0 ? 2ull : 1ull) << 32 | sum;
        for (int at = int(tile) - 1; at >= 0; at--) {
            unsigned long long state;
            do state = states[at];
            while (state == 0);
            prefix += unsigned(state);
            if (state >> 32 == 2) break;
        }
        if (tile > 0) states[tile] = 2ull << 32 | (prefix + sum);
        before = prefix;
    }
    __syncthreads();
    out[i] = before + values[thread];
}

// The sum of all words: every block leaves a part, and the last to arrive adds them.
extern "C" __global__ void last_block(const unsigned* in, unsigned* parts, unsigned* arrived, unsigned* out) {
    __shared__ unsigned sum;
    __shared__ bool last;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, in[blockIdx.x * blockDim.x + threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        __threadfence();
        last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        unsigned all = 0;
        for (unsigned block = 0; block < gridDim.x; block++) all += parts[block];
        *out = all;
    }
}

// Stream-K: tile `blockIdx.x` is the work of gridDim.y blocks. The first waits for what the others leave.
extern "C" __global__ void fix_up(const unsigned* in, unsigned* parts, unsigned* flags, unsigned* out) {
    unsigned tiles = gridDim.x, tile = blockIdx.x, split = blockIdx.y, splits = gridDim.y;
    unsigned thread = threadIdx.x, width = blockDim.x;
    unsigned sum = in[(split * tiles + tile) * width + thread];
    if (split > 0) {
        parts[(split * tiles + tile) * width + thread] = sum;
        __threadfence();
        __syncthreads();
        if (thread == 0) atomicExch(&flags[split * tiles + tile], 1);
        return;
    }
    for (unsigned other = 1; other < splits; other++) {
        if (thread == 0) {
            while (atomicCAS(&flags[other * tiles + tile], 1, 0) == 0) {}
            __threadfence();
        }
        __syncthreads();
        sum += parts[(other * tiles + tile) * width + thread];
    }
    out[tile * width + thread] = sum;
}

// Blocks append their numbers under a lock, several times each.
extern "C" __global__ void locked(unsigned* lock, unsigned* count, unsigned* list, unsigned times) {
    if (threadIdx.x != 0) return;
    for (unsigned time = 0; time < times; time++) {
        while (atomicCAS(lock, 0, 1) != 0) {}
        __threadfence();
        list[*count] = blockIdx.x;
        *count += 1;
        __threadfence();
        atomicExch(lock, 0);
    }
}

// Waits for a flag that nobody sets, or writes without end.
extern "C" __global__ void stranded(unsigned* flag, unsigned writes) {
    while (*(volatile unsigned*)flag == 0) {
        if (writes != 0) atomicAdd(flag + 1, 1);
    }
}
