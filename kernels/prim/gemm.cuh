// A tile of a * wᵀ and what becomes of it; `linear` and `conv2d` differ in where rows of A come from.
#pragma once
#include "../launch.h"
#include "pack.cuh"
#include "products.cuh"
#include "splits.cuh"

// Up to four neighbours from `column` of a row of n, in one piece where rows are whole pieces.
template <class T>
__device__ __forceinline__ float4 load_row(const T* from, unsigned int column, unsigned int n) {
    if (n % 4 == 0) return load4(from + column);
    float x[4] = {};
#pragma unroll
    for (unsigned int i = 0; i < 4; i++)
        if (column + i < n) x[i] = widen(from[column + i]);
    return make_float4(x[0], x[1], x[2], x[3]);
}

__device__ __forceinline__ float4 plus(float4 x, float4 y) {
    return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
}

// x + more to up to four neighbours from `column` of a row of n, in one piece where rows are whole pieces.
template <class T>
__device__ __forceinline__ void store_row(T* to, unsigned int column, unsigned int n, float4 x, float4 more) {
    const float y[4] = {x.x + more.x, x.y + more.y, x.z + more.z, x.w + more.w};
    if (n % 4 == 0) {
        store4(to + column, make_float4(y[0], y[1], y[2], y[3]));
    } else {
#pragma unroll
        for (unsigned int i = 0; i < 4; i++)
            if (column + i < n) to[column + i] = rounded<T>(y[i]);
    }
}

// What becomes of the sums of a tile.
//
// An epilogue gets four neighbouring sums of [m, n] at a time, with the bias; row < m, column < n, a multiple of 4:
// activate(y) of several where `activates`, then store(row, column, y, more) with what addend(row, column) gave.
// All addends of a round are asked for before the first store: a compiler that knows nothing of what overlaps would
// wait for each by itself. Where GATED, columns of the tile are GEMM_GATE values, their gates, and so on: a column
// of the output, of which there are epilogue.n, takes one of each, by gate(y, gates).
//   tile [BM, PITCH] f32 in shared memory, of the product's rows from row0 on and columns from column0 on
template <int BM, int BN, int PITCH, bool GATED, class Epilogue>
__device__ __forceinline__ void finish(const float* tile, const float* bias, unsigned int row0, unsigned int column0,
                                       unsigned int m, unsigned int n, const Epilogue& epilogue) {
    // A thread keeps to its four columns.
    constexpr unsigned int ACROSS = (GATED ? BN / 2 : BN) / 4, DOWN = GEMM_THREADS / ACROSS, ROUNDS = BM / DOWN;
    constexpr unsigned int EACH = ROUNDS < 8 ? ROUNDS : 8;  // rows of a thread at a time
    static_assert(GEMM_THREADS % ACROSS == 0 && BM % DOWN == 0 && ROUNDS % EACH == 0, "whole rounds");
    const unsigned int across = threadIdx.x % ACROSS * 4;
    const unsigned int at = GATED ? across / GEMM_GATE * (2 * GEMM_GATE) + across % GEMM_GATE : across;  // in the tile
    const unsigned int column = (GATED ? column0 / 2 : column0) + across;
    if (column >= epilogue.n) return;
    float4 shift = make_float4(0.0f, 0.0f, 0.0f, 0.0f), gate_shift = shift;
    if (bias != nullptr) {
        shift = load_row(bias, column0 + at, n);
        if (GATED) gate_shift = load_row(bias, column0 + at + GEMM_GATE, n);
    }
#pragma unroll 1
    for (unsigned int round = 0; round < ROUNDS; round += EACH) {
        const unsigned int begin = round * DOWN + threadIdx.x / ACROSS;
        float4 more[EACH], y[EACH];
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++)
            if (row0 + begin + i * DOWN < m) more[i] = epilogue.addend(row0 + begin + i * DOWN, column);
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++) {
            const float* sums = tile + (begin + i * DOWN) * PITCH + at;
            y[i] = plus(load4(sums), shift);
            if constexpr (GATED) epilogue.gate(y[i], plus(load4(sums + GEMM_GATE), gate_shift));
        }
        if (!GATED && epilogue.activates) epilogue.activate(y);
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++)
            if (row0 + begin + i * DOWN < m) epilogue.store(row0 + begin + i * DOWN, column, y[i], more[i]);
    }
}

// A tile's product, and what becomes of it by `epilogue`, which says whether its columns are gated.
//   rows, w as of `products`; bias [n] f32 or null, which no launch writes
// False for a block that leaves its sums to another: where Rows::SPLITS, gridDim.z blocks share a tile.
// Grid (n tiles, m tiles, splits), GEMM_THREADS threads, STAGES * (BM + BN) * 128 bytes of dynamic shared memory.
template <int BM, int BN, int WM, int WN, int STAGES, class Rows, class Epilogue>
__device__ __forceinline__ bool gemm(const Rows& rows, const bf16* w, const float* bias, unsigned int m,
                                     unsigned int n, const Epilogue& epilogue) {
    extern __shared__ __align__(128) unsigned char memory[];  // [STAGES, BM + BN, 128]
    const unsigned int row0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int warp_m = warp / (BN / WN) * WM, warp_n = warp % (BN / WN) * WN;
    float sums[WM / 16][WN / 8][4];
    const Place place = {row0, m, column0, n, Rows::SPLITS ? blockIdx.z : 0, Rows::SPLITS ? gridDim.z : 1};
    products<BM, BN, WM, WN, STAGES>(sums, memory, rows, w, place, [] {});
    // Through shared memory, so that a row is stored in wide pieces and the epilogue is there once. Rows
    // begin 8 banks apart: 16 lanes write 4 rows of 4 pairs to 32 banks.
    constexpr unsigned int PITCH = BN + 8;
    static_assert(BM * PITCH * 4 <= STAGES * (BM + BN) * 128, "sums fit where the stages were");
    float* tile = reinterpret_cast<float*>(memory);  // [BM, PITCH]
#pragma unroll
    for (unsigned int i = 0; i < WM / 16; i++)
#pragma unroll
        for (unsigned int j = 0; j < WN / 8; j++)
#pragma unroll
            for (unsigned int half = 0; half < 2; half++) {
                const unsigned int row = warp_m + 16 * i + 8 * half + lane / 4;
                const unsigned int column = warp_n + 8 * j + lane % 4 * 2;
                *reinterpret_cast<float2*>(tile + row * PITCH + column) =
                    make_float2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
            }
    __syncthreads();
    if constexpr (Rows::SPLITS)
        if (gridDim.z > 1 && !add_splits<BM, BN, PITCH>(tile)) return false;
    if constexpr (Epilogue::GATES)
        if (epilogue.gates()) {
            finish<BM, BN, PITCH, true>(tile, bias, row0, column0, m, n, epilogue);
            return true;
        }
    finish<BM, BN, PITCH, false>(tile, bias, row0, column0, m, n, epilogue);
    return true;
}
