// Linear layers. CPU twin: src/cpu/linear.rs.
#include "prim/gelu.cuh"
#include "prim/gemm.cuh"
#include "prim/layer_norm.cuh"

// What becomes of the sums of a linear layer. mode 0: store, 1: exact GELU, 2: add to what is there.
template <class Out>
struct LinearEpilogue {
    Out* out;  // [m, n]
    unsigned int n, mode;
    bool activates;
    __device__ __forceinline__ float4 addend(unsigned int row, unsigned int column) const {
        const float4 nothing = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return mode == 2 ? load_row(out + static_cast<size_t>(row) * n, column, n) : nothing;
    }
    __device__ __forceinline__ void activate(float4& y) const {
        y = make_float4(gelu(y.x), gelu(y.y), gelu(y.z), gelu(y.w));
    }
    __device__ __forceinline__ void store(unsigned int row, unsigned int column, float4 y, float4 more) const {
        store_row(out + static_cast<size_t>(row) * n, column, n, y, more);
    }
};

// out = activation(x * wᵀ + bias), or out += x * wᵀ + bias.
//   out [m, n] bf16 | f32   rounded once;  x [m, k] bf16;  w [n, kp] bf16, kp = k rounded up to 8, zeros there
//   bias [n] f32 or null;  mode 0: store, 1: exact GELU, 2: add to what is there (f32 only)
// f32 sums in ascending k, 16 at a time; of `splits` equal parts of k each by itself, then in their order.
// Grid (ceil(n / BN), ceil(m / BM), splits), at most GEMM_TILE_SLOTS tiles and GEMM_PART_SLOTS sums where
// splits > 1; block GEMM_THREADS, dynamic shared memory STAGES * (BM + BN) * 128 bytes. out, x, w aligned to 16
// bytes; no bias or out overlaps an input. False for a block that leaves the store to another.
template <int BM, int BN, int WM, int WN, int STAGES, class Out>
__device__ __forceinline__ bool linear(Out* out, const bf16* x, const bf16* w, const float* bias, unsigned int m,
                                       unsigned int n, unsigned int k, unsigned int mode) {
    return gemm<BM, BN, WM, WN, STAGES>(MatrixRows{x, k, 1}, w, bias, m, n,
                                        LinearEpilogue<Out>{out, n, mode, mode == 1});
}

#define LINEAR(NAME, OUT, SIZE, WM, WN)                                                                       \
    extern "C" __global__ __launch_bounds__(GEMM_THREADS) void NAME(                                          \
        OUT* out, const bf16* x, const bf16* w, const float* bias, unsigned int m, unsigned int n,            \
        unsigned int k, unsigned int mode) {                                                                  \
        linear<GEMM_##SIZE##_M, GEMM_##SIZE##_N, WM, WN, GEMM_##SIZE##_STAGES>(out, x, w, bias, m, n, k, mode); \
    }

LINEAR(linear_small_bf16, bf16, SMALL, 16, 32)
LINEAR(linear_small_f32, float, SMALL, 16, 32)
LINEAR(linear_middle_bf16, bf16, MIDDLE, 32, 32)
LINEAR(linear_middle_f32, float, MIDDLE, 32, 32)
LINEAR(linear_large_bf16, bf16, LARGE, 64, 64)
LINEAR(linear_large_f32, float, LARGE, 64, 64)

// Blocks that have finished their tile of each row of tiles, 0 between launches; and how often all have.
__device__ unsigned int rows_arrived[GEMM_ROW_SLOTS];
__device__ unsigned int rows_epoch[GEMM_ROW_SLOTS];

// Waits until all blocks of this row of tiles are here: what they wrote is seen from then on.
__device__ __forceinline__ void join_row() {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        volatile unsigned int* epoch = &rows_epoch[blockIdx.y];
        const unsigned int before = *epoch;
        const bool last = atomicInc(&rows_arrived[blockIdx.y], gridDim.x - 1) == gridDim.x - 1;
        __threadfence();
        if (last)
            atomicAdd(&rows_epoch[blockIdx.y], 1);
        else
            while (*epoch == before) {}
        __threadfence();
    }
    __syncthreads();
}

// residual += x * wᵀ + bias, then out = layer_norm(residual).
//   residual [m, n] f32;  out [m, n] bf16, rounded once;  norm_weight, norm_bias [n] f32;  the rest as above
// The blocks of a row of tiles wait for each other and then share its rows, a warp each: all blocks of the grid
// must be resident at once, at most GEMM_ROW_SLOTS rows of tiles. Grid, block and shared memory as above.
template <int BM, int BN, int WM, int WN, int STAGES>
__device__ __forceinline__ void linear_add_norm(float* residual, bf16* out, const bf16* x, const bf16* w,
                                                const float* bias, const float* norm_weight,
                                                const float* norm_bias, unsigned int m, unsigned int n,
                                                unsigned int k, float epsilon) {
    if (!linear<BM, BN, WM, WN, STAGES>(residual, x, w, bias, m, n, k, 2)) return;
    join_row();
    const unsigned int end = min(blockIdx.y * BM + BM, m), warps = GEMM_THREADS / 32;
    for (unsigned int row = blockIdx.y * BM + blockIdx.x * warps + threadIdx.x / 32; row < end;
         row += gridDim.x * warps) {
        const size_t at = static_cast<size_t>(row) * n;
        layer_norm_row(out + at, residual + at, norm_weight, norm_bias, n, epsilon);
    }
}

#define LINEAR_ADD_NORM(NAME, SIZE, WM, WN)                                                                  \
    extern "C" __global__ __launch_bounds__(GEMM_THREADS, 1) void NAME(                                      \
        float* residual, bf16* out, const bf16* x, const bf16* w, const float* bias,                         \
        const float* norm_weight, const float* norm_bias, unsigned int m, unsigned int n, unsigned int k,    \
        float epsilon) {                                                                                     \
        linear_add_norm<GEMM_##SIZE##_M, GEMM_##SIZE##_N, WM, WN, GEMM_##SIZE##_STAGES>(                     \
            residual, out, x, w, bias, norm_weight, norm_bias, m, n, k, epsilon);                            \
    }

LINEAR_ADD_NORM(linear_add_norm_small, SMALL, 16, 32)
LINEAR_ADD_NORM(linear_add_norm_middle, MIDDLE, 32, 32)
