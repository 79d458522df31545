// What aMUSEd's blocks are made of beside products and norms. CPU twin: src/cpu/response.rs.
#include "launch.h"
#include "prim/activate.cuh"
#include "prim/modulate.cuh"
#include "prim/pack.cuh"
#include "prim/reduce.cuh"
#include "prim/turn.cuh"

// Up to four neighbours, of which `left` are there, zeros past them; in one piece where WHOLE: 4 divides rows.
template <bool WHOLE, class T>
__device__ __forceinline__ float4 load_some(const T* from, unsigned int left) {
    if (WHOLE) return load4(from);
    float x[4] = {};
#pragma unroll
    for (unsigned int i = 0; i < 4; i++)
        if (i < left) x[i] = widen(from[i]);
    return make_float4(x[0], x[1], x[2], x[3]);
}
template <bool WHOLE, class T>
__device__ __forceinline__ void store_some(T* to, unsigned int left, float4 y) {
    if (WHOLE) return store4(to, y);
    const float x[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
    for (unsigned int i = 0; i < 4; i++)
        if (i < left) to[i] = rounded<T>(x[i]);
}

__device__ __forceinline__ float4 multiply_add(float4 a, float4 b, float4 c) {
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

// x = x * (1 + s) + t, in place, one block a row.
//   x [rows, d] f32, aligned to 16 bytes;  s and t as prim/modulate.cuh has them
// Grid rows, block ROW_THREADS.
extern "C" __global__ __launch_bounds__(ROW_THREADS) void modulate(float* x, const float* modulation,
                                                                   unsigned int d, unsigned int stride,
                                                                   unsigned int sequence) {
    take_turn();
    const float* by = Modulation{modulation, stride, sequence}.of(blockIdx.x);
    float* row = x + static_cast<size_t>(blockIdx.x) * d;  // [d]
    if (d % 4 == 0) {
        for (unsigned int c = 4 * threadIdx.x; c < d; c += 4 * ROW_THREADS)
            store4(row + c, modulated(load4(row + c), by, c, d));
    } else {
        for (unsigned int c = threadIdx.x; c < d; c += ROW_THREADS) row[c] = modulated(row[c], by, c, d);
    }
}

// out = activation(x).
//   out, x [elements] f32 | bf16, rounded once, aligned to 16 bytes;  mode: of launch.h, MODE_STORE changes nothing
// Grid ceil(elements / (4 * ELEMENTWISE_THREADS)), block ELEMENTWISE_THREADS.
template <class Out, class In>
__device__ __forceinline__ void activate(Out* out, const In* x, unsigned int elements, unsigned int mode) {
    take_turn();
    const unsigned int i = 4 * (blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x);
    if (i >= elements) return;
    const unsigned int left = elements - i;
    float4 y[1] = {left >= 4 ? load4(x + i) : load_some<false>(x + i, left)};
    activate_all(y, mode);
    if (left >= 4)
        store4(out + i, y[0]);
    else
        store_some<false>(out + i, left, y[0]);
}

// A strip of DEPTHWISE_COLUMNS output pixels and four channels: every input it needs is read once.
template <bool WHOLE, class Out, class In>
__device__ __forceinline__ void filter_strip(Out* out, const In* x, const float* weight, const float* bias,
                                             unsigned int lines, unsigned int height, unsigned int width,
                                             unsigned int channels) {
    const unsigned int vectors = (channels + 3) / 4, strips = (width + DEPTHWISE_COLUMNS - 1) / DEPTHWISE_COLUMNS;
    const unsigned int i = blockIdx.x * DEPTHWISE_THREADS + threadIdx.x, rest = i / vectors;
    const unsigned int c = i % vectors * 4, first = rest % strips * DEPTHWISE_COLUMNS, line = rest / strips;
    if (line >= lines) return;
    const unsigned int y = line % height, left = channels - c;
    float4 sum[DEPTHWISE_COLUMNS];
    const float4 start = bias ? load_some<WHOLE>(bias + c, left) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (unsigned int j = 0; j < DEPTHWISE_COLUMNS; j++) sum[j] = start;
#pragma unroll
    for (unsigned int ky = 0; ky < 3; ky++) {
        if (y + ky < 1 || y + ky > height) continue;
        const In* row = x + (static_cast<size_t>(line) + ky - 1) * width * channels + c;
        float4 w[3], pixel[DEPTHWISE_COLUMNS + 2];
#pragma unroll
        for (unsigned int kx = 0; kx < 3; kx++)
            w[kx] = load_some<WHOLE>(weight + (3 * ky + kx) * channels + c, left);
#pragma unroll
        for (unsigned int j = 0; j < DEPTHWISE_COLUMNS + 2; j++) {
            const unsigned int column = first + j - 1;  // left of the image: past its end
            pixel[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (column < width) pixel[j] = load_some<WHOLE>(row + static_cast<size_t>(column) * channels, left);
        }
#pragma unroll
        for (unsigned int j = 0; j < DEPTHWISE_COLUMNS; j++)
#pragma unroll
            for (unsigned int kx = 0; kx < 3; kx++) sum[j] = multiply_add(pixel[j + kx], w[kx], sum[j]);
    }
    out += (static_cast<size_t>(line) * width + first) * channels + c;
#pragma unroll
    for (unsigned int j = 0; j < DEPTHWISE_COLUMNS; j++)
        if (first + j < width) store_some<WHOLE>(out + static_cast<size_t>(j) * channels, left, sum[j]);
}

// out = filter(x) + bias: 3x3 with zero padding 1, each channel by itself.
//   out, x [images, height, width, channels] f32 | bf16, rounded once, lines = images * height
//   weight [9, channels] f32, tap 3 * ky + kx;  bias [channels] f32 or null
// A sum begins with the bias and takes the taps in order, f32. All pointers aligned to 16 bytes.
// Grid ceil(ceil(channels / 4) * ceil(width / DEPTHWISE_COLUMNS) * lines / DEPTHWISE_THREADS), block
// DEPTHWISE_THREADS.
template <class Out, class In>
__device__ __forceinline__ void depthwise(Out* out, const In* x, const float* weight, const float* bias,
                                          unsigned int lines, unsigned int height, unsigned int width,
                                          unsigned int channels) {
    take_turn();
    if (channels % 4 == 0)
        filter_strip<true>(out, x, weight, bias, lines, height, width, channels);
    else
        filter_strip<false>(out, x, weight, bias, lines, height, width, channels);
}

// Norms of the global_response_norm under way, [images][channels]. All launches go through one stream, those of a
// call without another's between them, so there is one user at a time.
__device__ __align__(16) float response_norms[RESPONSE_SLOTS];

// The root of the sum of squares of four channels from c on over the pixels of an image, by the threads of a
// column; sums [RESPONSE_THREADS] in shared memory.
template <bool WHOLE, class In>
__device__ __forceinline__ void sum_squares(float4* sums, const In* x, unsigned int c, unsigned int pixels,
                                            unsigned int channels) {
    constexpr unsigned int ACROSS = RESPONSE_CHANNELS / 4, DOWN = RESPONSE_THREADS / ACROSS;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (c < channels) {
#pragma unroll 8
        for (unsigned int p = threadIdx.x / ACROSS; p < pixels; p += DOWN) {
            const float4 v = load_some<WHOLE>(x + static_cast<size_t>(p) * channels + c, channels - c);
            sum = multiply_add(v, v, sum);
        }
    }
    sums[threadIdx.x] = sum;
}

// Norms for `response_apply`, which follows: of each image and channel the root of the sum of squares over all
// pixels, in an order that depends on the shape alone.
//   x [images, pixels, channels] f32 | bf16, aligned to 16 bytes;  images * channels at most RESPONSE_SLOTS
// Grid (ceil(channels / RESPONSE_CHANNELS), images), block RESPONSE_THREADS.
template <class In>
__device__ __forceinline__ void response_measure(const In* x, unsigned int pixels, unsigned int channels) {
    take_turn();
    constexpr unsigned int ACROSS = RESPONSE_CHANNELS / 4, DOWN = RESPONSE_THREADS / ACROSS;
    __shared__ float4 sums[RESPONSE_THREADS];  // [DOWN][ACROSS]
    const unsigned int c = blockIdx.x * RESPONSE_CHANNELS + threadIdx.x % ACROSS * 4;
    x += static_cast<size_t>(blockIdx.y) * pixels * channels;
    if (channels % 4 == 0)
        sum_squares<true>(sums, x, c, pixels, channels);
    else
        sum_squares<false>(sums, x, c, pixels, channels);
    __syncthreads();
    const unsigned int channel = blockIdx.x * RESPONSE_CHANNELS + threadIdx.x;
    if (threadIdx.x >= RESPONSE_CHANNELS || channel >= channels) return;
    float sum = 0.0f;
#pragma unroll 8
    for (unsigned int r = 0; r < DOWN; r++)
        sum += reinterpret_cast<const float*>(sums)[r * RESPONSE_CHANNELS + threadIdx.x];
    response_norms[static_cast<size_t>(blockIdx.y) * channels + channel] = sqrtf(sum);
}

// RESPONSE_PIXELS pixels from `first` on: out = gain * x * (norm / mean) + shift + x.
template <bool WHOLE, class Out, class In>
__device__ __forceinline__ void respond(Out* out, const In* x, const float* norms, float mean, const float* gain,
                                        const float* shift, unsigned int first, unsigned int pixels,
                                        unsigned int channels) {
    const unsigned int end = min(first + RESPONSE_PIXELS, pixels);
    for (unsigned int c = 4 * threadIdx.x; c < channels; c += 4 * RESPONSE_THREADS) {
        const unsigned int left = channels - c;
        const float4 g = load_some<WHOLE>(gain + c, left), n = load_some<WHOLE>(norms + c, left);
        const float4 t = load_some<WHOLE>(shift + c, left);
        const float4 factor =
            make_float4(g.x * (n.x / mean), g.y * (n.y / mean), g.z * (n.z / mean), g.w * (n.w / mean));
#pragma unroll RESPONSE_PIXELS
        for (unsigned int p = first; p < end; p++) {
            const size_t at = static_cast<size_t>(p) * channels + c;
            const float4 v = load_some<WHOLE>(x + at, left), y = multiply_add(v, factor, t);
            store_some<WHOLE>(out + at, left, make_float4(y.x + v.x, y.y + v.y, y.z + v.z, y.w + v.w));
        }
    }
}

// out = gain * x * n + shift + x, n = norm / (mean of an image's norms + epsilon), norms as `response_measure`
// left them. Every block takes the mean anew, all in the same order.
//   out, x [images, pixels, channels] f32 | bf16, rounded once;  gain, shift [channels] f32
// Grid (ceil(pixels / RESPONSE_PIXELS), images), block RESPONSE_THREADS. All pointers aligned to 16 bytes.
template <class Out, class In>
__device__ __forceinline__ void response_apply(Out* out, const In* x, const float* gain, const float* shift,
                                               unsigned int pixels, unsigned int channels, float epsilon) {
    take_turn();
    __shared__ float sums[RESPONSE_THREADS / 32];
    const float* norms = response_norms + static_cast<size_t>(blockIdx.y) * channels;
    float sum = 0.0f;
#pragma unroll 4
    for (unsigned int c = threadIdx.x; c < channels; c += RESPONSE_THREADS) sum += norms[c];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    float mean = 0.0f;
#pragma unroll
    for (unsigned int i = 0; i < RESPONSE_THREADS / 32; i++) mean += sums[i];
    mean = mean / channels + epsilon;

    const size_t image = static_cast<size_t>(blockIdx.y) * pixels * channels;
    const unsigned int first = blockIdx.x * RESPONSE_PIXELS;
    if (channels % 4 == 0)
        respond<true>(out + image, x + image, norms, mean, gain, shift, first, pixels, channels);
    else
        respond<false>(out + image, x + image, norms, mean, gain, shift, first, pixels, channels);
}

#define RESPONSE_MEASURE(name, In)                                                                             \
    extern "C" __global__ __launch_bounds__(RESPONSE_THREADS) void name(const In* x, unsigned int pixels,      \
                                                                        unsigned int channels) {               \
        response_measure(x, pixels, channels);                                                                 \
    }
RESPONSE_MEASURE(response_measure_f32, float)
RESPONSE_MEASURE(response_measure_bf16, bf16)

#define OF_FLOATS(name, Out, In)                                                                               \
    extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void activate_##name(                         \
        Out* out, const In* x, unsigned int elements, unsigned int mode) {                                     \
        activate(out, x, elements, mode);                                                                      \
    }                                                                                                          \
    extern "C" __global__ __launch_bounds__(DEPTHWISE_THREADS) void depthwise_##name(                          \
        Out* out, const In* x, const float* weight, const float* bias, unsigned int lines, unsigned int height,\
        unsigned int width, unsigned int channels) {                                                           \
        depthwise(out, x, weight, bias, lines, height, width, channels);                                       \
    }                                                                                                          \
    extern "C" __global__ __launch_bounds__(RESPONSE_THREADS) void response_apply_##name(                      \
        Out* out, const In* x, const float* gain, const float* shift, unsigned int pixels,                     \
        unsigned int channels, float epsilon) {                                                                \
        response_apply(out, x, gain, shift, pixels, channels, epsilon);                                        \
    }
OF_FLOATS(f32_f32, float, float)
OF_FLOATS(f32_bf16, float, bf16)
OF_FLOATS(bf16_f32, bf16, float)
OF_FLOATS(bf16_bf16, bf16, bf16)
