// LayerNorm or RMSNorm of one row by one warp, and its modulation.
#pragma once
#include "../launch.h"
#include "modulate.cuh"
#include "pack.cuh"
#include "reduce.cuh"

// What a norm is made of, and what modulates its result.
struct RowNorm {
    const float* weight;  // [d], aligned to 16 bytes
    const float* bias;    // likewise, or null
    Modulation modulation;
    unsigned int centred;  // 1: LayerNorm; 0: RMSNorm, whose mean is 0
    float epsilon;
};

// to = (row - mean) / sqrt(var + epsilon) * weight + bias over d channels, modulated, rounded once.
//   to [d] f32 | bf16;  row [d] f32, aligned to 16 bytes, row r of its tensor
// Mean, then the mean square about it, f32 throughout. A row of up to NORM_CHANNELS stays in registers; a longer
// one is read again. Reads of the row pass by L1, which does not see what other blocks write.
template <class Out>
__device__ __forceinline__ void layer_norm_row(Out* to, const float* row, unsigned int r, const RowNorm& norm,
                                               unsigned int d) {
    const unsigned int lane = threadIdx.x % 32;
    const float *weight = norm.weight, *bias = norm.bias, *by = norm.modulation.of(r);
    float mean = 0.0f, square = 0.0f;
    if (d % 4 == 0 && d <= NORM_CHANNELS) {
        float4 x[NORM_CHANNELS / 128];
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++) {
            const unsigned int c = 4 * lane + 128 * i;
            if (c < d) x[i] = __ldcg(reinterpret_cast<const float4*>(row + c));
        }
        if (norm.centred) {
            float sum = 0.0f;
#pragma unroll
            for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++)
                if (4 * lane + 128 * i < d) sum += (x[i].x + x[i].y) + (x[i].z + x[i].w);
            mean = warp_sum(sum) / d;
        }
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++)
            if (4 * lane + 128 * i < d) {
                x[i] = make_float4(x[i].x - mean, x[i].y - mean, x[i].z - mean, x[i].w - mean);
                square += (x[i].x * x[i].x + x[i].y * x[i].y) + (x[i].z * x[i].z + x[i].w * x[i].w);
            }
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + norm.epsilon);
#pragma unroll
        for (unsigned int i = 0; i < NORM_CHANNELS / 128; i++) {
            const unsigned int c = 4 * lane + 128 * i;
            if (c < d) {
                const float4 w = load4(weight + c);
                const float4 s = bias ? load4(bias + c) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                const float4 y = make_float4(x[i].x * scale * w.x + s.x, x[i].y * scale * w.y + s.y,
                                             x[i].z * scale * w.z + s.z, x[i].w * scale * w.w + s.w);
                store4(to + c, by ? modulated(y, by, c, d) : y);
            }
        }
    } else {
        if (norm.centred) {
            float sum = 0.0f;
            for (unsigned int c = lane; c < d; c += 32) sum += __ldcg(row + c);
            mean = warp_sum(sum) / d;
        }
        for (unsigned int c = lane; c < d; c += 32) {
            const float x = __ldcg(row + c) - mean;
            square += x * x;
        }
        const float scale = 1.0f / sqrtf(warp_sum(square) / d + norm.epsilon);
        for (unsigned int c = lane; c < d; c += 32) {
            const float y = (__ldcg(row + c) - mean) * scale * weight[c] + (bias ? bias[c] : 0.0f);
            to[c] = rounded<Out>(by ? modulated(y, by, c, d) : y);
        }
    }
}
