// Attention of heads of 64 channels in bf16: out = softmax(q kᵀ / 8) v, without the matrix of scores.
// q is heads × queries × 64, k and v are heads × keys × 64. A block of four warps takes 64 queries.
#include "tensor.cuh"

constexpr int CHANNELS = 64;
constexpr int KEYS = 64;
constexpr int ROW_BYTES = CHANNELS * sizeof(bf16);
constexpr int TILE_BYTES = KEYS * ROW_BYTES;

__device__ __forceinline__ unsigned chunk(unsigned tile, int row, int column) {
    return tile + row * ROW_BYTES + ((column ^ (row & 7)) << 4);
}

__device__ __forceinline__ void load_tile(unsigned tile, const bf16* from, int first, int rows) {
    for (int i = threadIdx.x; i < KEYS * 8; i += 128) {
        int row = i >> 3, column = i & 7;
        bool inside = first + row < rows;
        copy_async(chunk(tile, row, column), from + (inside ? (first + row) * CHANNELS + column * 8 : 0), inside);
    }
}

// The largest or the sum over the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

extern "C" __global__ void __launch_bounds__(128)
    attention(const bf16* q, const bf16* k, const bf16* v, bf16* out, int queries, int keys) {
    __shared__ __align__(128) unsigned char tiles[5 * TILE_BYTES];
    const unsigned base = shared_address(tiles);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int head = blockIdx.y, query0 = blockIdx.x * 64;
    q += static_cast<size_t>(head) * queries * CHANNELS;
    out += static_cast<size_t>(head) * queries * CHANNELS;
    k += static_cast<size_t>(head) * keys * CHANNELS;
    v += static_cast<size_t>(head) * keys * CHANNELS;
    auto load = [&](int tile) {
        if (tile * KEYS < keys) {
            unsigned stage = base + TILE_BYTES * (1 + 2 * (tile & 1));
            load_tile(stage, k, tile * KEYS, keys);
            load_tile(stage + TILE_BYTES, v, tile * KEYS, keys);
        }
        copy_commit();
    };
    load_tile(base, q, query0, queries);
    load(0);

    const float minus_infinity = __int_as_float(0xff800000);
    // Scores are taken in base 2: log2(e) / sqrt(64).
    const float scale = 0.18033688f;
    unsigned query[4][4];
    float result[8][4] = {};
    float largest[2] = {minus_infinity, minus_infinity}, total[2] = {0.0f, 0.0f};
    const int count = (keys + KEYS - 1) / KEYS;
    for (int tile = 0; tile < count; tile++) {
        load(tile + 1);
        copy_wait<1>();
        __syncthreads();
        if (tile == 0)
            for (int step = 0; step < 4; step++)
                load_matrices(query[step], chunk(base, warp * 16 + (lane & 15), step * 2 + (lane >> 4)));
        const unsigned tile_k = base + TILE_BYTES * (1 + 2 * (tile & 1)), tile_v = tile_k + TILE_BYTES;

        float score[8][4] = {};
#pragma unroll
        for (int step = 0; step < 4; step++)
            for (int j = 0; j < 4; j++) {
                unsigned key[4];
                int row = j * 16 + (lane >> 4) * 8 + (lane & 7);
                load_matrices(key, chunk(tile_k, row, step * 2 + ((lane >> 3) & 1)));
                multiply_add(score[2 * j], query[step], key[0], key[1]);
                multiply_add(score[2 * j + 1], query[step], key[2], key[3]);
            }

        float next[2] = {largest[0], largest[1]};
        for (int j = 0; j < 8; j++)
            for (int e = 0; e < 4; e++) {
                int key = tile * KEYS + j * 8 + lane % 4 * 2 + (e & 1);
                score[j][e] = key < keys ? score[j][e] * scale : minus_infinity;
                next[e >> 1] = fmaxf(next[e >> 1], score[j][e]);
            }
        for (int half = 0; half < 2; half++) {
            next[half] = row_max(next[half]);
            float shrink = exp2f(largest[half] - next[half]);
            largest[half] = next[half];
            total[half] *= shrink;
            for (int j = 0; j < 8; j++) {
                result[j][half * 2] *= shrink;
                result[j][half * 2 + 1] *= shrink;
            }
        }
        for (int j = 0; j < 8; j++)
            for (int e = 0; e < 4; e++) {
                score[j][e] = exp2f(score[j][e] - largest[e >> 1]);
                total[e >> 1] += score[j][e];
            }
#pragma unroll
        for (int step = 0; step < 4; step++) {
            // Accumulators of two 8-column results are laid out as one 16-column operand.
            unsigned weight[4] = {pack(score[2 * step][0], score[2 * step][1]),
                                  pack(score[2 * step][2], score[2 * step][3]),
                                  pack(score[2 * step + 1][0], score[2 * step + 1][1]),
                                  pack(score[2 * step + 1][2], score[2 * step + 1][3])};
            for (int j = 0; j < 4; j++) {
                unsigned value[4];
                load_matrices_transposed(value, chunk(tile_v, step * 16 + (lane & 15), j * 2 + (lane >> 4)));
                multiply_add(result[2 * j], weight, value[0], value[1]);
                multiply_add(result[2 * j + 1], weight, value[2], value[3]);
            }
        }
        __syncthreads();
    }
    copy_wait<0>();

    for (int half = 0; half < 2; half++) {
        int row = query0 + warp * 16 + half * 8 + lane / 4;
        float divisor = 1.0f / row_sum(total[half]);
        if (row >= queries) continue;
        for (int j = 0; j < 8; j++) {
            unsigned pair = pack(result[j][half * 2] * divisor, result[j][half * 2 + 1] * divisor);
            *reinterpret_cast<unsigned*>(out + static_cast<size_t>(row) * CHANNELS + j * 8 + lane % 4 * 2) = pair;
        }
    }
}
