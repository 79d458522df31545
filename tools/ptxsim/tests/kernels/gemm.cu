// c = a bᵀ: a is m×k, b is n×k, c is m×n, all bf16 in rows; k is a multiple of 32, n of 8.
// A block of four warps makes 64×64 of c; four stages of copies run ahead of the tensor cores.
#include "tensor.cuh"

constexpr int TILE = 64;
constexpr int DEPTH = 32;
constexpr int STAGES = 4;
constexpr int STAGE_BYTES = 2 * TILE * DEPTH * sizeof(bf16);

// Rows of 64 bytes; 16-byte chunks change places so that eight rows read at once hit all banks.
__device__ __forceinline__ unsigned chunk(unsigned tile, int row, int column) {
    return tile + row * DEPTH * sizeof(bf16) + ((column ^ ((row >> 1) & 3)) << 4);
}

__device__ __forceinline__ void load_tile(unsigned tile, const bf16* from, int first, int rows, int k, int at) {
    for (int i = threadIdx.x; i < TILE * 4; i += 128) {
        int row = i >> 2, column = i & 3;
        bool inside = first + row < rows;
        const bf16* source = from + (inside ? static_cast<size_t>(first + row) * k + at + column * 8 : 0);
        copy_async(chunk(tile, row, column), source, inside);
    }
}

extern "C" __global__ void __launch_bounds__(128) gemm(const bf16* a, const bf16* b, bf16* c, int m, int n, int k) {
    __shared__ __align__(128) unsigned char stages[STAGES * STAGE_BYTES];
    const unsigned base = shared_address(stages);
    const int row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_row = (warp & 1) * 32, warp_column = (warp >> 1) * 32;
    const int tiles = k / DEPTH;

    auto load = [&](int tile) {
        if (tile < tiles) {
            unsigned stage = base + (tile % STAGES) * STAGE_BYTES;
            load_tile(stage, a, row0, m, k, tile * DEPTH);
            load_tile(stage + STAGE_BYTES / 2, b, column0, n, k, tile * DEPTH);
        }
        copy_commit();
    };

    for (int tile = 0; tile < STAGES - 1; tile++) load(tile);
    float sum[2][4][4] = {};
    for (int tile = 0; tile < tiles; tile++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        load(tile + STAGES - 1);
        const unsigned stage_a = base + (tile % STAGES) * STAGE_BYTES;
        const unsigned stage_b = stage_a + STAGE_BYTES / 2;
#pragma unroll
        for (int step = 0; step < DEPTH / 16; step++) {
            unsigned left[2][4], right[2][4];
            for (int i = 0; i < 2; i++)
                load_matrices(left[i], chunk(stage_a, warp_row + i * 16 + (lane & 15), step * 2 + (lane >> 4)));
            for (int j = 0; j < 2; j++) {
                int row = warp_column + j * 16 + (lane >> 4) * 8 + (lane & 7);
                load_matrices(right[j], chunk(stage_b, row, step * 2 + ((lane >> 3) & 1)));
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    multiply_add(sum[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
        }
    }
    copy_wait<0>();

    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int half = 0; half < 2; half++) {
                int row = row0 + warp_row + i * 16 + half * 8 + lane / 4;
                int column = column0 + warp_column + j * 8 + lane % 4 * 2;
                if (row < m && column < n) {
                    unsigned pair = pack(sum[i][j][half * 2], sum[i][j][half * 2 + 1]);
                    *reinterpret_cast<unsigned*>(c + static_cast<size_t>(row) * n + column) = pair;
                }
            }
}
