// The products of a tile of a * wᵀ on the tensor cores, without what becomes of them.
#pragma once
#include "../launch.h"
#include "copy.cuh"
#include "mma.cuh"
#include "pack.cuh"
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

// Rows of a matrix [m, k].
struct MatrixRows {
    static constexpr bool ONE_TAP = true, SPLITS = true;
    const bf16* x;
    unsigned int k, taps;
    __device__ __forceinline__ const bf16* at(unsigned int row, unsigned int) const {
        return x + static_cast<size_t>(row) * k;
    }
    __device__ __forceinline__ unsigned int stored() const { return taps; }
};

// Where a tile lies: rows row0 .. of m, columns column0 .. of n, and which of `parts` equal parts of k.
struct Place {
    unsigned int row0, m, column0, n, part, parts;
};

// sums = this warp's WM rows and WN columns of a tile [BM, BN], f32, in ascending k, 16 at a time.
//   rows     k; taps, the first of the stored() taps in a row of w; where ONE_TAP: x, the first of k bf16 of row 0,
//            other rows after it; else at(row, tap): the first of k bf16, or null for zeros
//   w        [n, taps, kp] bf16, kp = k rounded up to 8, zeros there; no launch writes it
//   memory   [STAGES, BM + BN, 128] bytes in shared memory, aligned to 128; free for others when this returns
// Takes the turn of the launch; then `also` may start copies of its own, which are there when this returns.
// GEMM_THREADS threads. Warps lie in rows of BN / WN.
template <int BM, int BN, int WM, int WN, int STAGES, class Rows, class Also>
__device__ __forceinline__ void products(float (&sums)[WM / 16][WN / 8][4], unsigned char* memory, const Rows& rows,
                                         const bf16* w, const Place& place, const Also& also) {
    static_assert(BM / WM * (BN / WN) * 32 == GEMM_THREADS && GEMM_DEPTH == 64, "warps of a block");
    constexpr unsigned int STAGE = (BM + BN) * 128, B = BM * 128;
    const unsigned int row0 = place.row0, m = place.m, column0 = place.column0, n = place.n;
    const unsigned int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned int warp_m = warp / (BN / WN) * WM, warp_n = warp % (BN / WN) * WN;
    const unsigned int per = (rows.k + 7) / 8, pieces = per * rows.taps, all = (pieces + 7) / 8;
    const bool whole = rows.k % 8 == 0;
    // This block's steps in k.
    const unsigned int first = all * place.part / place.parts;
    const unsigned int steps = all * (place.part + 1) / place.parts - first;

    // A thread loads the same piece of every LINES-th row. As 8 divides LINES, all of them stand at the same
    // place of the swizzle, and a constant apart.
    constexpr unsigned int LINES = GEMM_THREADS / 8;
    static_assert(LINES % 8 == 0 && BM % LINES == 0 && BN % LINES == 0, "rows of a thread");
    const unsigned int piece = threadIdx.x % 8, line = threadIdx.x / 8;
    const unsigned int base = shared_address(memory), to = base + swizzled(line, piece);
    const unsigned int pitch = per * rows.stored();
    const bf16* from_w = w + (static_cast<size_t>(column0 + line) * pitch + piece) * 8;
    const size_t lines_w = static_cast<size_t>(LINES) * pitch * 8;
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
#pragma unroll
    for (int i = 0; i < WM / 16; i++)
#pragma unroll
        for (int j = 0; j < WN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;
#pragma unroll
    for (unsigned int step = 0; step < STAGES - 1; step++)
        if (step < steps) load_w(step, step * STAGE);
    take_turn();
    also();
#pragma unroll
    for (unsigned int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load_rows(step, step * STAGE);
        cp_async_commit();  // with the first, the weights of all and what `also` asked for
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
    cp_async_wait<0>();
    __syncthreads();  // the last stage is read
}
