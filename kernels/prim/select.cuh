// Radix select within a block: the rank-th smallest of (float, index) pairs, without sorting.
#pragma once
#include "launch.h"

#define SELECT_BINS (1u << SELECT_BITS)
#define SELECT_INDEX_BITS (2 * SELECT_BITS)

// A key that sorts as (x, index), -0 equal to 0; as sort_key of src/cpu/sample.rs. index < 2^22.
__device__ __forceinline__ unsigned long long sort_key(float x, unsigned int index) {
    const unsigned int bits = __float_as_uint(__fadd_rn(x, 0.0f));
    const unsigned int ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return static_cast<unsigned long long>(ordered) << SELECT_INDEX_BITS | index;
}

// Shared memory of a select.
struct Select {
    unsigned int bins[SELECT_BINS];
    unsigned int warps[32];
    unsigned int bin, rank, count;
};

// A key `last` such that exactly `rank` keys are <= last. `visit(f)` calls f(key) for this thread's keys,
// the same ones each time; keys differ; 1 <= rank <= their number. All `Threads` threads of the block call
// it and get the same key. Digit by digit from the top, each in one pass that counts the keys that begin
// like the one looked for; ends as soon as all of those belong to it.
template <int Threads, class Visit>
__device__ unsigned long long select_rank(Select& shared, unsigned int rank, Visit visit) {
    constexpr unsigned int EACH = SELECT_BINS / Threads;
    const unsigned int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned long long prefix = 0;  // the digits found, without those below
    int shift = 32 + SELECT_INDEX_BITS;
    while (true) {
        // Digits of 11, 11, 10 bits of the float, then 11, 11 of the index.
        const int bits = shift == SELECT_INDEX_BITS + 32 - 2 * SELECT_BITS ? 32 - 2 * SELECT_BITS : SELECT_BITS;
        const unsigned int mask = (1u << bits) - 1;
        shift -= bits;
        for (unsigned int i = threadIdx.x; i < SELECT_BINS; i += Threads) shared.bins[i] = 0;
        __syncthreads();
        visit([&](unsigned long long key) {
            if (key >> shift >> bits == prefix)
                atomicAdd(&shared.bins[static_cast<unsigned int>(key >> shift) & mask], 1u);
        });
        __syncthreads();

        // How many keys lie before each thread's bins.
        unsigned int own = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) own += shared.bins[threadIdx.x * EACH + i];
        unsigned int through = own;
        for (int step = 1; step < 32; step *= 2) {
            const unsigned int other = __shfl_up_sync(0xFFFFFFFFu, through, step);
            if (lane >= step) through += other;
        }
        if (lane == 31) shared.warps[warp] = through;
        __syncthreads();
        for (unsigned int w = 0; w < warp; w++) through += shared.warps[w];
        if (through - own < rank && rank <= through) {
            unsigned int before = through - own, bin = threadIdx.x * EACH;
            while (before + shared.bins[bin] < rank) before += shared.bins[bin++];
            shared.bin = bin, shared.rank = rank - before, shared.count = shared.bins[bin];
        }
        __syncthreads();
        prefix = prefix << bits | shared.bin;
        rank = shared.rank;
        if (shared.count == rank) return ((prefix + 1) << shift) - 1;
    }
}
