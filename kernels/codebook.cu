// Codebook search. CPU twin: src/cpu/codebook.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/turn.cuh"

#define NEAREST_THREADS (NEAREST_ROWS / 4 * NEAREST_CODES / 4)
#define INFINITE __int_as_float(0x7F800000)

// The nearest code of each row in each part of the codebook, [parts][rows]: distance bits above the index,
// so that the smallest is the nearest, and of equals the first. All launches go through one stream, those of a
// call without another's between them, so there is one user at a time.
__device__ unsigned long long nearest_found[NEAREST_SLOTS];

// A stage of a tile, channel by channel, so that a thread reads four neighbouring rows or codes at once.
// Column i of channel c stands at i ^ 8 * (c / 4): then the eight rows of four 16-byte loads are written to
// 32 different banks.
__device__ __forceinline__ unsigned int swizzled(unsigned int channel, unsigned int i) {
    return i ^ channel / 4 % 4 * 8;
}

// to[c][i] = from[first + i][begin + c]; zero beyond `end` rows and c channels.
template <int Columns>
__device__ __forceinline__ void load_stage(float (&to)[NEAREST_CHANNELS][Columns], const float* from,
                                           unsigned int first, unsigned int end, unsigned int begin,
                                           unsigned int channels) {
    for (unsigned int i = threadIdx.x; i < Columns * (NEAREST_CHANNELS / 4); i += NEAREST_THREADS) {
        const unsigned int row = i / (NEAREST_CHANNELS / 4), c = i % (NEAREST_CHANNELS / 4) * 4;
        const float* x = from + static_cast<size_t>(first + row) * channels + begin + c;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (first + row < end) {
            if (channels % 4 == 0) {
                if (begin + c < channels) v = load4(x);
            } else {
                if (begin + c < channels) v.x = x[0];
                if (begin + c + 1 < channels) v.y = x[1];
                if (begin + c + 2 < channels) v.z = x[2];
                if (begin + c + 3 < channels) v.w = x[3];
            }
        }
        const unsigned int column = swizzled(c, row);
        to[c][column] = v.x, to[c + 1][column] = v.y, to[c + 2][column] = v.z, to[c + 3][column] = v.w;
    }
}

// nearest_found[part][r] = argmin_j |z[r] - codebook[j]|^2 over the codes of a part: every parts-th tile of
// NEAREST_CODES. A distance is the sum of squared differences in channel order, one fused multiply-add each,
// as on the CPU; none is stored. Distances that are infinite or NaN are never the nearest.
//   z [rows, channels], codebook [codes, channels] f32, aligned to 16 bytes
// Grid (ceil(rows / NEAREST_ROWS), parts), rows * parts at most NEAREST_SLOTS; block NEAREST_THREADS, a warp
// for four rows.
// One block a multiprocessor is enough: on some architectures ptxas would spill for the sake of more.
extern "C" __global__ __launch_bounds__(NEAREST_THREADS, 1) void nearest_code(const float* z,
                                                                              const float* codebook,
                                                                              unsigned int rows, unsigned int codes,
                                                                              unsigned int channels) {
    take_turn();
    __shared__ __align__(16) float row_stage[NEAREST_CHANNELS][NEAREST_ROWS];
    __shared__ __align__(16) float code_stage[NEAREST_CHANNELS][NEAREST_CODES];
    const unsigned int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 4, first = blockIdx.x * NEAREST_ROWS;
    float nearest[4] = {INFINITE, INFINITE, INFINITE, INFINITE};
    unsigned int index[4] = {};
    for (unsigned int tile = blockIdx.y * NEAREST_CODES; tile < codes; tile += gridDim.y * NEAREST_CODES) {
        float distance[4][4] = {};  // of four rows and four codes
        for (unsigned int begin = 0; begin < channels; begin += NEAREST_CHANNELS) {
            __syncthreads();
            load_stage(row_stage, z, first, rows, begin, channels);
            load_stage(code_stage, codebook, tile, codes, begin, channels);
            __syncthreads();
#pragma unroll
            for (int c = 0; c < NEAREST_CHANNELS; c++) {
                const float4 a = load4(&row_stage[c][swizzled(c, row)]);
                const float4 b = load4(&code_stage[c][swizzled(c, 4 * lane)]);
                const float x[4] = {a.x, a.y, a.z, a.w}, code[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        const float delta = __fsub_rn(code[j], x[i]);
                        distance[i][j] = __fmaf_rn(delta, delta, distance[i][j]);
                    }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const unsigned int code = tile + 4 * lane + j;
                if (code < codes && distance[i][j] < nearest[i]) nearest[i] = distance[i][j], index[i] = code;
            }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned long long key = static_cast<unsigned long long>(__float_as_uint(nearest[i])) << 32 | index[i];
        for (int step = 16; step > 0; step /= 2) key = min(key, __shfl_xor_sync(0xFFFFFFFFu, key, step));
        const unsigned int r = first + row + i;
        if (lane == 0 && r < rows) nearest_found[blockIdx.y * rows + r] = key;
    }
}

// ids[r] = the nearest code of all parts. Grid ceil(rows / NEAREST_MERGE_THREADS), block
// NEAREST_MERGE_THREADS.
extern "C" __global__ __launch_bounds__(NEAREST_MERGE_THREADS) void nearest_merge(unsigned int* ids,
                                                                                  unsigned int rows,
                                                                                  unsigned int parts) {
    take_turn();
    const unsigned int r = blockIdx.x * NEAREST_MERGE_THREADS + threadIdx.x;
    if (r >= rows) return;
    unsigned long long key = ~0ull;
    for (unsigned int part = 0; part < parts; part++) key = min(key, nearest_found[part * rows + r]);
    ids[r] = static_cast<unsigned int>(key);
}
