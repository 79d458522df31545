// Linear layers. CPU twin: src/cpu/linear.rs.
#include "prim/activate.cuh"
#include "prim/gemm.cuh"
#include "prim/layer_norm.cuh"

// What becomes of the sums of a linear layer, by the modes of launch.h.
template <class Out>
struct LinearEpilogue {
    static constexpr bool GATES = true;
    Out* out;  // [m, n]
    unsigned int n, mode;
    bool activates;
    __device__ __forceinline__ float4 addend(unsigned int row, unsigned int column) const {
        const float4 nothing = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return mode == MODE_ADD ? load_row(out + static_cast<size_t>(row) * n, column, n) : nothing;
    }
    template <int N>
    __device__ __forceinline__ void activate(float4 (&y)[N]) const {
        activate_all(y, mode);
    }
    __device__ __forceinline__ bool gates() const { return mode == MODE_GEGLU; }
    __device__ __forceinline__ void gate(float4& y, float4 by) const {
        y = make_float4(y.x * gelu(by.x), y.y * gelu(by.y), y.z * gelu(by.z), y.w * gelu(by.w));
    }
    __device__ __forceinline__ void store(unsigned int row, unsigned int column, float4 y, float4 more) const {
        store_row(out + static_cast<size_t>(row) * n, column, n, y, more);
    }
};

// out = activation(x * wᵀ + bias), or out += x * wᵀ + bias.
//   out [m, n] bf16 | f32   rounded once;  x [m, k] bf16;  w [n, kp] bf16, kp = k rounded up to 8, zeros there
//   bias [n] f32 or null;  mode: of launch.h; MODE_ADD for f32 only. Of MODE_GEGLU w and bias have N rows for the n
//   of out, 2 * n rounded up to whole blocks: GEMM_GATE values, then the gates of the same columns, and so on
// f32 sums in ascending k, 16 at a time; of `splits` equal parts of k each by itself, then in their order.
// Grid (ceil(n or N / BN), ceil(m / BM), splits), at most GEMM_TILE_SLOTS tiles and GEMM_PART_SLOTS sums where
// splits > 1; block GEMM_THREADS, dynamic shared memory STAGES * (BM + BN) * 128 bytes. out, x, w aligned to 16
// bytes; no bias or out overlaps an input. False for a block that leaves the store to another.
template <int BM, int BN, int WM, int WN, int STAGES, class Out>
__device__ __forceinline__ bool linear(Out* out, const bf16* x, const bf16* w, const float* bias, unsigned int m,
                                       unsigned int n, unsigned int k, unsigned int mode) {
    const unsigned int blocks = (n + GEMM_GATE - 1) / GEMM_GATE, rows = mode == MODE_GEGLU ? blocks * 2 * GEMM_GATE : n;
    return gemm<BM, BN, WM, WN, STAGES>(MatrixRows{x, k, 1}, w, bias, m, rows,
                                        LinearEpilogue<Out>{out, n, mode, mode != MODE_STORE && mode != MODE_ADD});
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
//   residual [m, n] f32;  out [m, n] bf16, rounded once;  the rest as above and as layer_norm's
// The blocks of a row of tiles wait for each other and then share its rows, a warp each: all blocks of the grid
// must be resident at once, at most GEMM_ROW_SLOTS rows of tiles. Grid, block and shared memory as above.
template <int BM, int BN, int WM, int WN, int STAGES>
__device__ __forceinline__ void linear_add_norm(float* residual, bf16* out, const bf16* x, const bf16* w,
                                                const float* bias, unsigned int m, unsigned int n,
                                                unsigned int k, const RowNorm& norm) {
    if (!linear<BM, BN, WM, WN, STAGES>(residual, x, w, bias, m, n, k, MODE_ADD)) return;
    join_row();
    const unsigned int end = min(blockIdx.y * BM + BM, m), warps = GEMM_THREADS / 32;
    for (unsigned int row = blockIdx.y * BM + blockIdx.x * warps + threadIdx.x / 32; row < end;
         row += gridDim.x * warps) {
        const size_t at = static_cast<size_t>(row) * n;
        layer_norm_row(out + at, residual + at, row, norm, n);
    }
}

#define LINEAR_ADD_NORM(NAME, SIZE, WM, WN)                                                                  \
    extern "C" __global__ __launch_bounds__(GEMM_THREADS, 1) void NAME(                                      \
        float* residual, bf16* out, const bf16* x, const bf16* w, const float* bias,                         \
        const float* norm_weight, const float* norm_bias, const float* modulation, unsigned int m,           \
        unsigned int n, unsigned int k, unsigned int stride, unsigned int sequence, unsigned int centred,    \
        float epsilon) {                                                                                     \
        const RowNorm norm = {norm_weight, norm_bias, {modulation, stride, sequence}, centred, epsilon};     \
        linear_add_norm<GEMM_##SIZE##_M, GEMM_##SIZE##_N, WM, WN, GEMM_##SIZE##_STAGES>(                     \
            residual, out, x, w, bias, m, n, k, norm);                                                       \
    }

LINEAR_ADD_NORM(linear_add_norm_small, SMALL, 16, 32)
LINEAR_ADD_NORM(linear_add_norm_middle, MIDDLE, 32, 32)
