// LayerNorm of one row by one warp.
#pragma once
#include "../launch.h"
#include "pack.cuh"
#include "reduce.cuh"

// to = (row - mean) / sqrt(var + epsilon) * weight + bias over d channels, rounded once.
//   to [d] f32 | bf16;  row, weight, bias [d] f32, aligned to 16 bytes
// Mean, then the biased variance about it, f32 throughout. A row of up to NORM_CHANNELS stays in registers;
// a longer one is read again. Reads of the row pass by L1, which does not see what other blocks write.
template <class Out>
__device__ __forceinline__ void layer_norm_row(Out* to, const float* row, const float* weight, const float* bias,
                                               unsigned int d, float epsilon) {
    const unsigned int lane = threadIdx.x % 32;
    float sum = 0.0f, square = 0.0f;
    if (d % 4 == 0 && d <= NORM_CHANNELS) {
        float4 x[NORM_CHANNELS / 128];
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++) {
            const unsigned int c = 4 * lane + 128 * i;
            if (c < d) x[i] = __ldcg(reinterpret_cast<const float4*>(row + c));
        }
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++)
            if (4 * lane + 128 * i < d) sum += (x[i].x + x[i].y) + (x[i].z + x[i].w);
        const float mean = warp_sum(sum) / d;
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++)
            if (4 * lane + 128 * i < d) {
                x[i] = make_float4(x[i].x - mean, x[i].y - mean, x[i].z - mean, x[i].w - mean);
                square += (x[i].x * x[i].x + x[i].y * x[i].y) + (x[i].z * x[i].z + x[i].w * x[i].w);
            }
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + epsilon);
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++) {
            const unsigned int c = 4 * lane + 128 * i;
            if (c < d) {
                const float4 w = load4(weight + c), s = load4(bias + c);
                store4(to + c, make_float4(x[i].x * scale * w.x + s.x, x[i].y * scale * w.y + s.y,
                                           x[i].z * scale * w.z + s.z, x[i].w * scale * w.w + s.w));
            }
        }
    } else {
        for (unsigned int c = lane; c < d; c += 32) sum += __ldcg(row + c);
        const float mean = warp_sum(sum) / d;
        for (unsigned int c = lane; c < d; c += 32) {
            const float x = __ldcg(row + c) - mean;
            square += x * x;
        }
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + epsilon);
        for (unsigned int c = lane; c < d; c += 32)
            to[c] = rounded<Out>((__ldcg(row + c) - mean) * scale * weight[c] + bias[c]);
    }
}
