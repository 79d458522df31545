// The residual stream's step: x += y, and the sum's LayerNorm. One block of 256 threads a row.
#include <cuda_bf16.h>

__device__ float block_sum(float x) {
    __shared__ float partial[8];
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
    if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = x;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < 8; warp++) sum += partial[warp];
    __syncthreads();
    return sum;
}

extern "C" __global__ void __launch_bounds__(256)
    add_layer_norm(__nv_bfloat162* x, const __nv_bfloat162* y, const __nv_bfloat162* weight, __nv_bfloat162* out,
                   int pairs, float epsilon) {
    x += static_cast<size_t>(blockIdx.x) * pairs;
    y += static_cast<size_t>(blockIdx.x) * pairs;
    out += static_cast<size_t>(blockIdx.x) * pairs;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < pairs; i += 256) {
        float2 a = __bfloat1622float2(x[i]), b = __bfloat1622float2(y[i]);
        a.x += b.x;
        a.y += b.y;
        x[i] = __floats2bfloat162_rn(a.x, a.y);
        sum += a.x + a.y;
    }
    float mean = block_sum(sum) / (2 * pairs);
    float squares = 0.0f;
    for (int i = threadIdx.x; i < pairs; i += 256) {
        float2 a = __bfloat1622float2(x[i]);
        squares += (a.x - mean) * (a.x - mean) + (a.y - mean) * (a.y - mean);
    }
    float scale = rsqrtf(block_sum(squares) / (2 * pairs) + epsilon);
    for (int i = threadIdx.x; i < pairs; i += 256) {
        float2 a = __bfloat1622float2(x[i]), w = __bfloat1622float2(__ldg(weight + i));
        out[i] = __floats2bfloat162_rn((a.x - mean) * scale * w.x, (a.y - mean) * scale * w.y);
    }
}
