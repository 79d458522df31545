// Pixels to network input and back, and rounding on the way. CPU twin: src/cpu/image.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/turn.cuh"

// out = x, rounded.
//   out [elements] bf16, x [elements] f32, both aligned to 16 bytes
// Grid ceil(elements / (4 * ELEMENTWISE_THREADS)), block ELEMENTWISE_THREADS.
extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void to_bf16(bf16* out, const float* x,
                                                                          unsigned int elements) {
    take_turn();
    const unsigned int i = 4 * (blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x);
    if (i + 4 <= elements)
        store4(out + i, load4(x + i));
    else
        for (unsigned int j = i; j < elements; j++) out[j] = rounded<bf16>(x[j]);
}

// out[p] = (x[p] / 255, 0): RGB to four channels, the last one zero.
//   out [pixels, 4] bf16, x [pixels, 3] u8
// Grid ceil(pixels / ELEMENTWISE_THREADS), block ELEMENTWISE_THREADS.
extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void load_rgb8(bf16* out, const unsigned char* x,
                                                                            unsigned int pixels) {
    take_turn();
    const unsigned int p = blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x;
    if (p >= pixels) return;
    store4(out + 4 * static_cast<size_t>(p),
           make_float4(x[3 * p] / 255.0f, x[3 * p + 1] / 255.0f, x[3 * p + 2] / 255.0f, 0.0f));
}

// out = 255 * clamp(x, 0, 1), rounded half to even; NaN becomes 0.
//   out [elements] u8, x [elements] f32
// Grid ceil(elements / ELEMENTWISE_THREADS), block ELEMENTWISE_THREADS.
extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void to_rgb8(unsigned char* out, const float* x,
                                                                          unsigned int elements) {
    take_turn();
    const unsigned int i = blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x;
    if (i < elements) out[i] = static_cast<unsigned char>(__float2int_rn(__saturatef(x[i]) * 255.0f));
}
