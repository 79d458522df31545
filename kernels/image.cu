// Pixels to network input and back, and rounding on the way. CPU twin: src/cpu/image.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/turn.cuh"

// out[r] = (x[r], what rounding takes from x[r]), both rounded.
//   out [rows, 2, channels] bf16, x [rows, channels] f32, both aligned to 16 bytes; elements = rows * channels
// Grid ceil(elements / (4 * ELEMENTWISE_THREADS)), block ELEMENTWISE_THREADS.
extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void split(bf16* out, const float* x,
                                                                        unsigned int elements,
                                                                        unsigned int channels) {
    take_turn();
    const unsigned int i = 4 * (blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x);
    if (channels % 4 == 0) {
        if (i >= elements) return;
        const float4 v = load4(x + i);
        bf16* to = out + i + static_cast<size_t>(i / channels) * channels;
        store4(to, v);
        store4(to + channels, lost(v));
    } else {
        for (unsigned int j = i; j < min(i + 4, elements); j++) {
            bf16* to = out + j + static_cast<size_t>(j / channels) * channels;
            to[0] = rounded<bf16>(x[j]);
            to[channels] = rounded<bf16>(lost(x[j]));
        }
    }
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
