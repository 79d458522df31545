// A tile of a * wᵀ on the tensor cores; `linear` and `conv2d` differ in where rows of A come from.
#pragma once
#include "../launch.h"
#include "copy.cuh"
#include "mma.cuh"
#include "pack.cuh"
#include "splits.cuh"
#include "turn.cuh"

// Byte of 16-byte piece `piece` (of 8) of a row: pieces change places by row, so that the 8 rows that
// ldmatrix reads at once, and the 8 pieces of a row that are written at once, lie in different banks.
__device__ __forceinline__ unsigned int swizzled(unsigned int row, unsigned int piece) {
    return row * 128 + ((piece ^ (row & 7)) << 4);
}

// 8 columns from `column` of a row of k, zeros past it; `from` may be at any element.
__device__ __forceinline__ uint4 gathered(const bf16* from, unsigned int column, unsigned int k) {
    unsigned int words[4] = {0, 0, 0, 0};
    if (from != nullptr) {
        const unsigned short* bits = reinterpret_cast<const unsigned short*>(from);
#pragma unroll
        for (unsigned int i = 0; i < 8; i++)
            if (column + i < k) words[i / 2] |= static_cast<unsigned int>(bits[column + i]) << (16 * (i % 2));
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

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

// An epilogue gets four neighbouring sums of [m, n] at a time, with the bias; row < m, column < n, a multiple of 4:
// activate(y) where `activates`, then store(row, column, y, more) with what addend(row, column) gave. All addends
// of a round are asked for before the first store: a compiler that knows nothing of what overlaps would wait for
// each by itself.
//   rows     k; taps; where ONE_TAP: x, the first of k bf16 of row 0, other rows after it; else at(row, tap):
//            the first of k bf16, or null for zeros
//   w        [n, taps, kp] bf16, kp = k rounded up to 8, zeros there; bias [n] f32 or null; no launch writes them
// False for a block that leaves its sums to another: where Rows::SPLITS, gridDim.z blocks share a tile.
// Grid (n tiles, m tiles, splits), GEMM_THREADS threads, STAGES * (BM + BN) * 128 bytes of dynamic shared memory.
template <int BM, int BN, int WM, int WN, int STAGES, class Rows, class Epilogue>
__device__ __forceinline__ bool gemm(const Rows& rows, const bf16* w, const float* bias, unsigned int m,
                                     unsigned int n, const Epilogue& epilogue) {
    static_assert(BM / WM * (BN / WN) * 32 == GEMM_THREADS && GEMM_DEPTH == 64, "warps of a block");
    extern __shared__ __align__(128) unsigned char memory[];  // [STAGES, BM + BN, 128]
    constexpr unsigned int STAGE = (BM + BN) * 128, B = BM * 128;
    const unsigned int row0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int warp_m = warp / (BN / WN) * WM, warp_n = warp % (BN / WN) * WN;
    const unsigned int per = (rows.k + 7) / 8, pieces = per * rows.taps, all = (pieces + 7) / 8;
    const bool whole = rows.k % 8 == 0;
    // This block's steps in k.
    const unsigned int first = Rows::SPLITS ? all * blockIdx.z / gridDim.z : 0;
    const unsigned int steps = (Rows::SPLITS ? all * (blockIdx.z + 1) / gridDim.z : all) - first;

    // A thread loads the same piece of every LINES-th row. As 8 divides LINES, all of them stand at the same
    // place of the swizzle, and a constant apart.
    constexpr unsigned int LINES = GEMM_THREADS / 8;
    static_assert(LINES % 8 == 0 && BM % LINES == 0 && BN % LINES == 0, "rows of a thread");
    const unsigned int piece = threadIdx.x % 8, line = threadIdx.x / 8;
    const unsigned int base = shared_address(memory), to = base + swizzled(line, piece);
    const bf16* from_w = w + (static_cast<size_t>(column0 + line) * pieces + piece) * 8;
    const size_t lines_w = static_cast<size_t>(LINES) * pieces * 8;
    const auto load_w = [&](unsigned int step, unsigned int stage) {
        const bool there = (first + step) * 8 + piece < pieces;
#pragma unroll
        for (unsigned int i = 0; i < BN / LINES; i++)
            cp_async16(to + stage + B + i * (LINES * 128), from_w + (first + step) * GEMM_DEPTH + i * lines_w,
                       there && column0 + line + i * LINES < n);
    };
    const auto load_rows = [&](unsigned int step, unsigned int stage) {
        const unsigned int at = (first + step) * 8 + piece;
        const unsigned int tap = Rows::ONE_TAP ? 0 : at / per, column = (at - tap * per) * 8;
        if (!whole) {
#pragma unroll 1
            for (unsigned int i = 0; i < BM / LINES; i++) {
                const unsigned int row = line + i * LINES;
                const bf16* from = at < pieces && row0 + row < m ? rows.at(row0 + row, tap) : nullptr;
                *reinterpret_cast<uint4*>(memory + stage + swizzled(row, piece)) = gathered(from, column, rows.k);
            }
        } else if constexpr (Rows::ONE_TAP) {
            const bf16* from = rows.at(row0 + line, 0) + column;
            const size_t lines = static_cast<size_t>(LINES) * rows.k;
#pragma unroll
            for (unsigned int i = 0; i < BM / LINES; i++)
                cp_async16(to + stage + i * (LINES * 128), from + i * lines,
                           at < pieces && row0 + line + i * LINES < m);
        } else {
#pragma unroll
            for (unsigned int i = 0; i < BM / LINES; i++) {
                const unsigned int row = row0 + line + i * LINES;
                const bf16* from = at < pieces && row < m ? rows.at(row, tap) : nullptr;
                cp_async16(to + stage + i * (LINES * 128), from == nullptr ? w : from + column, from != nullptr);
            }
        }
    };

    // Of the 8x8 matrices of a warp, too, all rows stand at one place of the swizzle; a step in k changes
    // bits of it that no other term has.
    const unsigned int a0 = base + (warp_m + lane % 16) * 128, a_piece = (lane / 16 ^ lane % 8) << 4;
    const unsigned int b0 = base + B + (warp_n + lane % 8 + lane / 16 * 8) * 128,
                       b_piece = (lane / 8 % 2 ^ lane % 8) << 4;
    float sums[WM / 16][WN / 8][4] = {};
#pragma unroll
    for (unsigned int step = 0; step < STAGES - 1; step++)
        if (step < steps) load_w(step, step * STAGE);
    take_turn();
#pragma unroll
    for (unsigned int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load_rows(step, step * STAGE);
        cp_async_commit();  // with the first, the weights of all
    }
    unsigned int filled = 0, free = (STAGES - 1) * STAGE;  // the next stage to read, and to write
#pragma unroll 1
    for (unsigned int step = 0; step < steps; step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();  // the stage is there, and the one before it is read
        if (step + STAGES - 1 < steps) {
            load_rows(step + STAGES - 1, free);
            load_w(step + STAGES - 1, free);
        }
        cp_async_commit();
#pragma unroll
        for (unsigned int k = 0; k < GEMM_DEPTH / 16; k++) {
            unsigned int a[WM / 16][4], b[WN / 16][4];
#pragma unroll
            for (unsigned int i = 0; i < WM / 16; i++)
                ldmatrix_x4(a[i], a0 + filled + (a_piece ^ k << 5) + i * (16 * 128));
#pragma unroll
            for (unsigned int j = 0; j < WN / 16; j++)
                ldmatrix_x4(b[j], b0 + filled + (b_piece ^ k << 5) + j * (16 * 128));
#pragma unroll
            for (unsigned int i = 0; i < WM / 16; i++)
#pragma unroll
                for (unsigned int j = 0; j < WN / 8; j++)
                    mma_bf16_m16n8k16(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
        free = filled;
        filled = filled == (STAGES - 1) * STAGE ? 0 : filled + STAGE;
    }
    // Through shared memory, so that a row is stored in wide pieces and the epilogue is there once. Rows
    // begin 8 banks apart: 16 lanes write 4 rows of 4 pairs to 32 banks.
    cp_async_wait<0>();
    __syncthreads();  // the last stage is read
    constexpr unsigned int PITCH = BN + 8;
    static_assert(BM * PITCH * 4 <= STAGES * STAGE, "sums fit where the stages were");
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
    // A thread keeps to its four columns.
    constexpr unsigned int ACROSS = BN / 4, DOWN = GEMM_THREADS / ACROSS, ROUNDS = BM / DOWN;
    constexpr unsigned int EACH = ROUNDS < 8 ? ROUNDS : 8;  // rows of a thread at a time
    static_assert(GEMM_THREADS % ACROSS == 0 && BM % DOWN == 0 && ROUNDS % EACH == 0, "whole rounds");
    const unsigned int column = column0 + threadIdx.x % ACROSS * 4;
    if (column >= n) return true;
    float4 shift = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (bias != nullptr) shift = load_row(bias, column, n);
#pragma unroll 1
    for (unsigned int round = 0; round < ROUNDS; round += EACH) {
        const unsigned int begin = round * DOWN + threadIdx.x / ACROSS;
        float4 more[EACH], y[EACH];
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++)
            if (row0 + begin + i * DOWN < m) more[i] = epilogue.addend(row0 + begin + i * DOWN, column);
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++) {
            y[i] = load4(tile + (begin + i * DOWN) * PITCH + threadIdx.x % ACROSS * 4);
            y[i] = make_float4(y[i].x + shift.x, y[i].y + shift.y, y[i].z + shift.z, y[i].w + shift.w);
        }
        if (epilogue.activates) {
#pragma unroll
            for (unsigned int i = 0; i < EACH; i++) epilogue.activate(y[i]);
        }
#pragma unroll
        for (unsigned int i = 0; i < EACH; i++)
            if (row0 + begin + i * DOWN < m) epilogue.store(row0 + begin + i * DOWN, column, y[i], more[i]);
    }
    return true;
}
