// Normalisation. CPU twin: src/cpu/norm.rs.
#include "launch.h"
#include "prim/layer_norm.cuh"
#include "prim/pack.cuh"
#include "prim/turn.cuh"

// out = (x - mean) / sqrt(var + epsilon) * weight + bias over the last dimension, one warp a row; then
// out * (1 + s) + t, if there is a modulation.
//   out [rows, d] f32 | bf16   rounded once;  x [rows, d] f32;  weight [d] f32;  bias [d] f32 or null
//   modulation  f32 or null: s and t as prim/modulate.cuh has them, with its stride and rows of a sequence
//   centred  1: LayerNorm; 0: RMSNorm, the mean being 0
// Grid ceil(rows / NORM_WARPS), block 32 * NORM_WARPS. All pointers but the modulation aligned to 16 bytes.
template <class Out>
__device__ __forceinline__ void layer_norm(Out* out, const float* x, const RowNorm& norm, unsigned int rows,
                                           unsigned int d) {
    take_turn();
    const unsigned int r = blockIdx.x * NORM_WARPS + threadIdx.x / 32;
    if (r >= rows) return;
    const size_t at = static_cast<size_t>(r) * d;
    layer_norm_row(out + at, x + at, r, norm, d);
}

#define LAYER_NORM(name, Out)                                                                                  \
    extern "C" __global__ __launch_bounds__(32 * NORM_WARPS) void name(                                        \
        Out* out, const float* x, const float* weight, const float* bias, const float* modulation,             \
        unsigned int rows, unsigned int d, unsigned int stride, unsigned int sequence, unsigned int centred,   \
        float epsilon) {                                                                                       \
        layer_norm(out, x, RowNorm{weight, bias, {modulation, stride, sequence}, centred, epsilon}, rows, d);  \
    }
LAYER_NORM(layer_norm_bf16, bf16)
LAYER_NORM(layer_norm_f32, float)

// Moments of the group_norm_silu under way: mean and sum of squares about it, [images][pieces][groups]; at
// last, with each image's first piece, its mean and 1 / sqrt(var + epsilon). All launches go through one
// stream, those of a call without another's between them, so there is one user at a time.
__device__ float2 group_moments[GROUP_SLOTS];
// Blocks that have left their moments; 0 between launches.
__device__ unsigned int group_arrived;

// `Width` neighbouring channels.
template <int Width>
__device__ __forceinline__ void load_channels(float (&to)[Width], const float* from) {
    if constexpr (Width == 4) {
        const float4 x = load4(from);
        to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
    } else {
        to[0] = from[0];
    }
}

// Pixels of a piece: as many for each block, fewer for the last.
struct Piece {
    unsigned int first, end;

    __device__ Piece(unsigned int pixels, unsigned int piece) {
        const unsigned int size = (pixels + gridDim.x - 1) / gridDim.x;
        first = piece * size;
        end = min(first + size, pixels);
    }
};

// sums[g] = the sum over pixels first .. end and the channels of group g of x, or of (x - means[g])^2.
//
// A thread keeps to the same Width channels and a block reads whole rows. Sums are taken per thread, then
// over the rows of threads, then over channels: an order that depends on the shape alone.
//   x [pixels, channels] f32;  in shared memory: sums, means [groups], columns [GROUP_THREADS * Width],
//   channel_sums [channels]
template <int Width, bool Squares>
__device__ void sum_groups(float* sums, const float* means, float* columns, float* channel_sums, const float* x,
                           unsigned int first, unsigned int end, unsigned int channels, unsigned int groups) {
    const unsigned int vectors = channels / Width, size = channels / groups;
    for (unsigned int begin = 0; begin < vectors; begin += GROUP_THREADS) {
        const unsigned int width = min(vectors - begin, GROUP_THREADS), rows = GROUP_THREADS / width;
        const unsigned int row = threadIdx.x / width, vector = threadIdx.x % width;
        if (row < rows) {
            const unsigned int c = (begin + vector) * Width;
            float sum[Width] = {}, mean[Width] = {};
            if (Squares) {
                unsigned int g = c / size, left = size - c % size;
#pragma unroll
                for (int i = 0; i < Width; i++) {
                    mean[i] = means[g];
                    if (--left == 0) left = size, g++;
                }
            }
#pragma unroll 4
            for (unsigned int p = first + row; p < end; p += rows) {
                float v[Width];
                load_channels(v, x + static_cast<size_t>(p) * channels + c);
#pragma unroll
                for (int i = 0; i < Width; i++)
                    sum[i] += Squares ? (v[i] - mean[i]) * (v[i] - mean[i]) : v[i];
            }
#pragma unroll
            for (int i = 0; i < Width; i++) columns[(row * Width + i) * width + vector] = sum[i];
        }
        __syncthreads();
        for (unsigned int j = threadIdx.x; j < width * Width; j += GROUP_THREADS) {
            float sum = 0.0f;
            for (unsigned int r = 0; r < rows; r++) sum += columns[r * Width * width + j];
            channel_sums[(begin + j % width) * Width + j / width] = sum;
        }
        __syncthreads();
    }
    for (unsigned int g = threadIdx.x; g < groups; g += GROUP_THREADS) {
        float sum = 0.0f;
        for (unsigned int i = 0; i < size; i++) sum += channel_sums[g * size + i];
        sums[g] = sum;
    }
    __syncthreads();
}

// Merges the moments of an image's pieces, about the first one's mean m: N (mean - m) = sum n (mean_i - m),
// N var = sum squares_i + n (mean_i - m)^2 - N (mean - m)^2. Of the precision of a sum, the difference loses
// at most the factor of the number of pieces, where the first is far from all others.
// One block; sums [GROUP_THREADS] in shared memory.
__device__ void merge_pieces(float2* moments, float2* sums, unsigned int pixels, unsigned int groups,
                             unsigned int size, float epsilon) {
    const unsigned int pieces = gridDim.x, width = min(groups, GROUP_THREADS), rows = GROUP_THREADS / width;
    const unsigned int row = threadIdx.x / width, column = threadIdx.x % width;
    for (unsigned int begin = 0; begin < groups; begin += width) {
        const unsigned int g = begin + column;
        const bool inside = row < rows && g < groups;
        const float pivot = inside ? __ldcg(moments + g).x : 0.0f;
        float2 sum = make_float2(0.0f, 0.0f);
        if (inside) {
#pragma unroll 8
            for (unsigned int i = row; i < pieces; i += rows) {
                const float2 moment = __ldcg(moments + i * groups + g);
                const Piece piece(pixels, i);
                const float n = piece.end - piece.first, delta = moment.x - pivot;
                sum.x += n * delta;
                sum.y += moment.y / size + n * (delta * delta);
            }
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (inside && row == 0) {
            for (unsigned int r = 1; r < rows; r++) {
                sum.x += sums[r * width + column].x;
                sum.y += sums[r * width + column].y;
            }
            const float delta = sum.x / pixels, var = fmaxf(sum.y / pixels - delta * delta, 0.0f);
            moments[g] = make_float2(pivot + delta, 1.0f / sqrtf(var + epsilon));
        }
        __syncthreads();
    }
}

// Statistics for `group_norm_apply`, which follows. Every block leaves the moments of its piece, taken a few
// pixels at a time so that the second pass over them, for the squares about their mean, finds them in L1, and
// merged in order (Chan et al., 1983). The last block to arrive merges the pieces.
//   x [images, pixels, channels] f32, aligned to 16 bytes; Width divides channels
// Grid (pieces, images) without an empty piece, pieces * images * groups at most GROUP_SLOTS; block
// GROUP_THREADS; shared memory GROUP_THREADS * Width + channels + 4 * groups f32, at least
// 2 * GROUP_THREADS.
template <int Width>
__device__ __forceinline__ void group_norm_moments(const float* x, unsigned int pixels, unsigned int channels,
                                                   unsigned int groups, float epsilon) {
    take_turn();
    extern __shared__ __align__(16) float memory[];
    __shared__ bool last;
    float *columns = memory, *channel_sums = columns + GROUP_THREADS * Width, *means = channel_sums + channels,
          *squares = means + groups, *all_means = squares + groups, *all_squares = all_means + groups;
    const Piece piece(pixels, blockIdx.x);
    const unsigned int size = channels / groups, step = GROUP_READS * max(GROUP_THREADS * Width / channels, 1);
    x += static_cast<size_t>(blockIdx.y) * pixels * channels;
    for (unsigned int first = piece.first; first < piece.end; first += step) {
        const unsigned int end = min(first + step, piece.end);
        const float n = (end - first) * size, before = (first - piece.first) * size, part = n / (before + n);
        sum_groups<Width, false>(means, means, columns, channel_sums, x, first, end, channels, groups);
        for (unsigned int g = threadIdx.x; g < groups; g += GROUP_THREADS) means[g] /= n;
        __syncthreads();
        sum_groups<Width, true>(squares, means, columns, channel_sums, x, first, end, channels, groups);
        for (unsigned int g = threadIdx.x; g < groups; g += GROUP_THREADS) {
            const bool any = before > 0.0f;
            const float delta = any ? means[g] - all_means[g] : 0.0f;
            all_means[g] = any ? all_means[g] + delta * part : means[g];
            all_squares[g] = any ? all_squares[g] + squares[g] + delta * delta * (before * part) : squares[g];
        }
    }
    for (unsigned int g = threadIdx.x; g < groups; g += GROUP_THREADS)
        group_moments[(blockIdx.y * gridDim.x + blockIdx.x) * groups + g] =
            make_float2(all_means[g], all_squares[g]);

    __threadfence();
    __syncthreads();
    const unsigned int blocks = gridDim.x * gridDim.y;
    if (threadIdx.x == 0) last = atomicInc(&group_arrived, blocks - 1) == blocks - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (unsigned int image = 0; image < gridDim.y; image++)
        merge_pieces(group_moments + image * gridDim.x * groups, reinterpret_cast<float2*>(memory), pixels, groups,
                     size, epsilon);
}

// out = y / (1 + exp(-y)), y = (x - mean) / sqrt(var + epsilon) * weight + bias, statistics over the
// channels of a group and all pixels of an image, as left by `group_norm_moments` over `pieces` pieces.
//   out [images, pixels, parts, channels] bf16, rounded once, and of 2 parts the second is what that took;
//   x [images, pixels, channels] f32;  weight, bias [channels] f32;  Width divides channels
// Grid (pieces of its own, images), block GROUP_THREADS. out and x aligned to 16 bytes.
template <int Width>
__device__ __forceinline__ void group_norm_apply(bf16* out, const float* x, const float* weight, const float* bias,
                                                 unsigned int pixels, unsigned int channels, unsigned int groups,
                                                 unsigned int pieces, unsigned int parts) {
    take_turn();
    const unsigned int vectors = channels / Width, size = channels / groups;
    const Piece piece(pixels, blockIdx.x);
    const float2* moments = group_moments + blockIdx.y * pieces * groups;
    const size_t image = static_cast<size_t>(blockIdx.y) * pixels * channels;
    for (unsigned int begin = 0; begin < vectors; begin += GROUP_THREADS) {
        const unsigned int width = min(vectors - begin, GROUP_THREADS), rows = GROUP_THREADS / width;
        const unsigned int row = threadIdx.x / width, c = (begin + threadIdx.x % width) * Width;
        if (row >= rows) continue;
        float mean[Width], factor[Width], shift[Width];
#pragma unroll
        for (int i = 0; i < Width; i++) {
            const float2 moment = moments[(c + i) / size];
            mean[i] = moment.x, factor[i] = moment.y * weight[c + i], shift[i] = bias[c + i];
        }
#pragma unroll 4
        for (unsigned int p = piece.first + row; p < piece.end; p += rows) {
            const size_t at = image + static_cast<size_t>(p) * channels + c;
            float v[Width];
            load_channels(v, x + at);
#pragma unroll
            for (int i = 0; i < Width; i++) {
                const float y = (v[i] - mean[i]) * factor[i] + shift[i];
                v[i] = __fdividef(y, 1.0f + __expf(-y));
            }
            bf16* to = out + (at - c) * parts + c;
            if constexpr (Width == 4) {
                const float4 y = make_float4(v[0], v[1], v[2], v[3]);
                store4(to, y);
                if (parts == 2) store4(to + channels, lost(y));
            } else {
                to[0] = rounded<bf16>(v[0]);
                if (parts == 2) to[channels] = rounded<bf16>(lost(v[0]));
            }
        }
    }
}

#define GROUP_NORM(Width)                                                                                      \
    extern "C" __global__ __launch_bounds__(GROUP_THREADS) void group_norm_moments_##Width(                    \
        const float* x, unsigned int pixels, unsigned int channels, unsigned int groups, float epsilon) {      \
        group_norm_moments<Width>(x, pixels, channels, groups, epsilon);                                       \
    }                                                                                                          \
    extern "C" __global__ __launch_bounds__(GROUP_THREADS) void group_norm_apply_##Width(                      \
        bf16* out, const float* x, const float* weight, const float* bias, unsigned int pixels,                \
        unsigned int channels, unsigned int groups, unsigned int pieces, unsigned int parts) {                 \
        group_norm_apply<Width>(out, x, weight, bias, pixels, channels, groups, pieces, parts);                \
    }
GROUP_NORM(1)
GROUP_NORM(4)
