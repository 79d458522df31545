// Convolutions over NHWC images, as a product whose rows of A are gathered. CPU twin: src/cpu/conv.rs.
#include "prim/gemm.cuh"

// Input pixels that an output pixel reads, by tap; nothing outside the image.
// kind 0: 1x1; 1: 3x3 same; 2: 3x3 stride 2 padded right and bottom; 3: nearest x2, then 3x3 same: of an output of
// twice the size the phase blockIdx.z, with output rows of its parity / 2 and columns of its parity % 2, reads 2x2.
struct Pixels {
    static constexpr bool ONE_TAP = false, SPLITS = false;
    const bf16* x;  // [b, height, width, k]
    unsigned int k, taps, kind, height, width;
    __device__ __forceinline__ const bf16* at(unsigned int row, unsigned int tap) const {
        if (kind == 0) return x + static_cast<size_t>(row) * k;
        const unsigned int rows = kind == 2 ? height / 2 : height, columns = kind == 2 ? width / 2 : width;
        const unsigned int line = row / columns, image = line / rows;
        const int oy = line - image * rows, ox = row - line * columns;
        const int ky = kind == 3 ? tap / 2 + blockIdx.z / 2 : tap / 3;
        const int kx = kind == 3 ? tap % 2 + blockIdx.z % 2 : tap - tap / 3 * 3;
        const int y = kind == 2 ? 2 * oy + ky : oy + ky - 1;
        const int u = kind == 2 ? 2 * ox + kx : ox + kx - 1;
        if (y < 0 || u < 0 || y >= static_cast<int>(height) || u >= static_cast<int>(width)) return nullptr;
        return x + ((static_cast<size_t>(image) * height + y) * width + u) * k;
    }
    // Taps in a row of weights, all phases.
    __device__ __forceinline__ unsigned int stored() const { return kind == 3 ? 4 * taps : taps; }
    // The output pixel of a row.
    __device__ __forceinline__ size_t pixel(unsigned int row) const {
        if (kind != 3) return row;
        const unsigned int line = row / width;
        return (2 * static_cast<size_t>(line) + blockIdx.z / 2) * (2 * width) + 2 * (row - line * width) +
               blockIdx.z % 2;
    }
};

// What becomes of the sums of a convolution.
template <class Out>
struct ConvEpilogue {
    static constexpr bool activates = false;
    Out* out;               // [pixels, n]
    const float* residual;  // [pixels, n], or null
    Pixels pixels;
    unsigned int n;
    __device__ __forceinline__ float4 addend(unsigned int row, unsigned int column) const {
        const float4 nothing = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return residual ? load_row(residual + pixels.pixel(row) * n, column, n) : nothing;
    }
    template <int N>
    __device__ __forceinline__ void activate(float4 (&)[N]) const {}
    static constexpr bool GATES = false;
    __device__ __forceinline__ void store(unsigned int row, unsigned int column, float4 y, float4 more) const {
        store_row(out + pixels.pixel(row) * n, column, n, y, more);
    }
};

// out = conv(x) + bias (+ residual).
//   out [m, n] bf16 | f32, m output pixels   rounded once;  x [b, height, width, k] bf16;  w [n, taps, kp] bf16
//   bias [n] f32 or null;  residual [m, n] f32 or null
// Of kind 3 m is the pixels of one phase, out and residual have 4 m, and w is [n, 4, taps, kp].
// f32 sums in ascending tap and channel. Grid (n tiles, m tiles, phases: 4 of kind 3, else 1), block and shared memory
// as linear's; all pointers aligned to 16 bytes.
template <int BM, int BN, int WM, int WN, int STAGES, class Out>
__device__ __forceinline__ void conv(Out* out, const Pixels& pixels, const bf16* w, const float* bias,
                                     const float* residual, unsigned int m, unsigned int n) {
    const bf16* of_phase = w + static_cast<size_t>(blockIdx.z) * pixels.taps * ((pixels.k + 7) / 8 * 8);
    gemm<BM, BN, WM, WN, STAGES>(pixels, of_phase, bias, m, n, ConvEpilogue<Out>{out, residual, pixels, n});
}

#define CONV(NAME, OUT, SIZE, WM, WN)                                                                       \
    extern "C" __global__ __launch_bounds__(GEMM_THREADS) void NAME(                                        \
        OUT* out, const bf16* x, const bf16* w, const float* bias, const float* residual, unsigned int m,   \
        unsigned int n, unsigned int k, unsigned int taps, unsigned int kind, unsigned int height,          \
        unsigned int width) {                                                                               \
        conv<GEMM_##SIZE##_M, GEMM_##SIZE##_N, WM, WN, GEMM_##SIZE##_STAGES>(                               \
            out, Pixels{x, k, taps, kind, height, width}, w, bias, residual, m, n);                         \
    }

CONV(conv_small_bf16, bf16, SMALL, 16, 32)
CONV(conv_small_f32, float, SMALL, 16, 32)
CONV(conv_middle_bf16, bf16, MIDDLE, 32, 32)
CONV(conv_middle_f32, float, MIDDLE, 32, 32)
CONV(conv_large_bf16, bf16, LARGE, 64, 64)
CONV(conv_large_f32, float, LARGE, 64, 64)
