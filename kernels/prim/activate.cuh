// Activations of sums and of elements, by the numbers of launch.h.
#pragma once
#include "../launch.h"
#include "gelu.cuh"

// x / (1 + 2^(factor x)), 0 for a large denominator: x * sigmoid(x) at a factor of -log2(e).
__device__ __forceinline__ float swish(float x, float factor) {
    return __fdividef(x, 1.0f + exp2_approx(factor * x));
}

// y = activation(y), one that takes elements one by one; any other mode leaves them as they are.
template <int N>
__device__ __forceinline__ void activate_all(float4 (&y)[N], unsigned int mode) {
    if (mode == MODE_GELU) {
#pragma unroll
        for (int i = 0; i < N; i++) y[i] = make_float4(gelu(y[i].x), gelu(y[i].y), gelu(y[i].z), gelu(y[i].w));
    } else if (mode == MODE_SILU || mode == MODE_QUICK_GELU) {
        const float f = mode == MODE_SILU ? -1.44269504f : -2.45546696f;  // log2(e), and 1.702 times that
#pragma unroll
        for (int i = 0; i < N; i++)
            y[i] = make_float4(swish(y[i].x, f), swish(y[i].y, f), swish(y[i].z, f), swish(y[i].w, f));
    }
}
