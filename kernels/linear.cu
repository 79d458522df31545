// Linear layers. CPU twin: src/cpu/linear.rs.
#include "prim/gemm.cuh"

// Rows of a matrix [m, k].
struct MatrixRows {
    static constexpr bool ONE_TAP = true;
    const bf16* x;
    unsigned int k, taps;
    __device__ __forceinline__ const bf16* at(unsigned int row, unsigned int) const {
        return x + static_cast<size_t>(row) * k;
    }
};

// out = activation(x * wᵀ + bias), or out += x * wᵀ + bias.
//   out [m, n] bf16 | f32   rounded once;  x [m, k] bf16;  w [n, kp] bf16, kp = k rounded up to 8, zeros there
//   bias [n] f32 or null;  mode 0: store, 1: exact GELU, 2: add to what is there (f32 only)
// f32 sums in ascending k, 16 at a time. Grid (ceil(n / BN), ceil(m / BM)), block GEMM_THREADS, dynamic shared
// memory STAGES * (BM + BN) * 128 bytes. out, x, w aligned to 16 bytes; no bias or out overlaps an input.
template <int BM, int BN, int WM, int WN, int STAGES, class Out>
__device__ __forceinline__ void linear(Out* out, const bf16* x, const bf16* w, const float* bias, unsigned int m,
                                       unsigned int n, unsigned int k, unsigned int mode) {
    gemm<BM, BN, WM, WN, STAGES>(
        MatrixRows{x, k, 1}, w, m, n, [&](unsigned int row, unsigned int first, float4 sums) {
            Out* to = out + static_cast<size_t>(row) * n;  // [n]
            store_row(to, first, n, sums, [&](unsigned int column, float sum) {
                if (bias != nullptr) sum += bias[column];
                if (mode == 1) sum = 0.5f * sum * (1.0f + erff(sum * 0.70710678f));
                return mode == 2 ? sum + widen(to[column]) : sum;
            });
        });
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
