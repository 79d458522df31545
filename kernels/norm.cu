// Normalisation. CPU twin: src/cpu/norm.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/reduce.cuh"

// out = (x - mean) / sqrt(var + epsilon) * weight + bias over the last dimension, one warp a row.
//   out [rows, d] f32 | bf16   rounded once;  x [rows, d] f32;  weight, bias [d] f32
// Two passes over the row: mean, then the biased variance about it; f32 throughout, the row stays in L1.
// Grid ceil(rows / NORM_WARPS), block 32 * NORM_WARPS. All pointers aligned to 16 bytes.
template <class Out>
__device__ void layer_norm(Out* out, const float* x, const float* weight, const float* bias, unsigned int rows,
                           unsigned int d, float epsilon) {
    const unsigned int r = blockIdx.x * NORM_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (r >= rows) return;
    const float* row = x + static_cast<size_t>(r) * d;  // [d]
    Out* to = out + static_cast<size_t>(r) * d;         // [d]
    float sum = 0.0f, square = 0.0f;
    if (d % 4 == 0) {
        for (unsigned int c = 4 * lane; c < d; c += 128) {
            const float4 v = load4(row + c);
            sum += (v.x + v.y) + (v.z + v.w);
        }
        const float mean = warp_sum(sum) / d;
        for (unsigned int c = 4 * lane; c < d; c += 128) {
            const float4 v = load4(row + c);
            const float a = v.x - mean, b = v.y - mean, e = v.z - mean, f = v.w - mean;
            square += (a * a + b * b) + (e * e + f * f);
        }
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + epsilon);
        for (unsigned int c = 4 * lane; c < d; c += 128) {
            const float4 v = load4(row + c), w = load4(weight + c), s = load4(bias + c);
            store4(to + c, make_float4((v.x - mean) * scale * w.x + s.x, (v.y - mean) * scale * w.y + s.y,
                                       (v.z - mean) * scale * w.z + s.z, (v.w - mean) * scale * w.w + s.w));
        }
    } else {
        for (unsigned int c = lane; c < d; c += 32) sum += row[c];
        const float mean = warp_sum(sum) / d;
        for (unsigned int c = lane; c < d; c += 32) square += (row[c] - mean) * (row[c] - mean);
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + epsilon);
        for (unsigned int c = lane; c < d; c += 32)
            to[c] = rounded<Out>((row[c] - mean) * scale * weight[c] + bias[c]);
    }
}

extern "C" __global__ __launch_bounds__(32 * NORM_WARPS) void layer_norm_bf16(bf16* out, const float* x,
                                                                              const float* weight,
                                                                              const float* bias, unsigned int rows,
                                                                              unsigned int d, float epsilon) {
    layer_norm(out, x, weight, bias, rows, d, epsilon);
}

extern "C" __global__ __launch_bounds__(32 * NORM_WARPS) void layer_norm_f32(float* out, const float* x,
                                                                             const float* weight,
                                                                             const float* bias, unsigned int rows,
                                                                             unsigned int d, float epsilon) {
    layer_norm(out, x, weight, bias, rows, d, epsilon);
}
