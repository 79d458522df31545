// What decides tokens. Every operation that a comparison depends on is rounded by itself, so the same
// tokens come out as on the CPU, to the bit. CPU twin: src/cpu/sample.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/rng.cuh"
#include "prim/select.cuh"
#include "prim/turn.cuh"

#define MINUS_INFINITY __int_as_float(0xFF800000)

// One row of logits with guidance.
struct Row {
    const float* conditional;    // [v]
    const float* unconditional;  // [v], or null at guidance 1
    unsigned int v;
    float guidance;

    __device__ __forceinline__ float one(unsigned int i) const {
        const float c = conditional[i];
        if (!unconditional) return c;
        const float u = unconditional[i];
        return __fadd_rn(u, __fmul_rn(guidance, __fsub_rn(c, u)));
    }

    // Elements i .. i + 4, -inf beyond the last. i is a multiple of 4.
    __device__ __forceinline__ void four(float (&x)[4], unsigned int i) const {
        if (v % 4 == 0) {
            const float4 c = load4(conditional + i);
            x[0] = c.x, x[1] = c.y, x[2] = c.z, x[3] = c.w;
            if (!unconditional) return;
            const float4 u = load4(unconditional + i);
            const float without[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
            for (int e = 0; e < 4; e++)
                x[e] = __fadd_rn(without[e], __fmul_rn(guidance, __fsub_rn(x[e], without[e])));
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++) x[e] = i + e < v ? one(i + e) : MINUS_INFINITY;
        }
    }
};

// A row's keys, those of a thread.
struct LargestFirst {
    const Row& row;

    template <class Take>
    __device__ __forceinline__ void operator()(Take take) const {
        for (unsigned int i = 4 * threadIdx.x; i < row.v; i += 4 * SAMPLE_THREADS) {
            float x[4];
            row.four(x, i);
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (i + e < row.v) take(sort_key(-x[e], i + e));
        }
    }
};

// What some elements of a row amount to: the first of the largest noisy ones, and for the log-probability
// the largest without noise and the sum of exponentials about it.
struct Draw {
    float score;
    unsigned int token;
    float largest, sum;

    __device__ __forceinline__ void merge(const Draw& other) {
        if (other.score > score || (other.score == score && other.token < token))
            score = other.score, token = other.token;
        if (other.largest == MINUS_INFINITY) return;
        const float most = fmaxf(largest, other.largest);
        sum = sum * expf(largest - most) + other.sum * expf(other.largest - most);
        largest = most;
    }

    __device__ __forceinline__ Draw from_lane(int distance) const {
        return {__shfl_xor_sync(0xFFFFFFFFu, score, distance), __shfl_xor_sync(0xFFFFFFFFu, token, distance),
                __shfl_xor_sync(0xFFFFFFFFu, largest, distance), __shfl_xor_sync(0xFFFFFFFFu, sum, distance)};
    }
};

// sampled[j] = argmax(x / temperature + Gumbel noise), the first of equals, confidence[j] = its
// log-probability; x = u + guidance * (c - u), of which only the top_k largest can be drawn, of equals the
// first. At temperature 0: argmax(x).
//   logits [2n, v] f32: n rows of c, then n of u; [n, v], all c, at guidance 1
//   positions, sampled [n] u32, confidence [n] f32;  top_k 0: all, else below v
// Positions count through the grids of several images, `cells` each, whose seeds follow one another.
// One pass over the row from global memory; with top_k, a radix select before it, whose passes find the row
// in L1. Grid n, block SAMPLE_THREADS. logits aligned to 16 bytes; v < 2^22.
extern "C" __global__ __launch_bounds__(SAMPLE_THREADS) void guide_and_sample(
    unsigned int* sampled, float* confidence, const float* logits, const unsigned int* positions, unsigned int cells,
    unsigned int v, float guidance, float temperature, unsigned int top_k, unsigned long long seed, unsigned int step) {
    take_turn();
    __shared__ Select select;
    __shared__ Draw draws[SAMPLE_THREADS / 32];
    const unsigned int j = blockIdx.x, n = gridDim.x, image = positions[j] / cells, position = positions[j] % cells;
    const float* c = logits + static_cast<size_t>(j) * v;
    const Row row = {c, guidance == 1.0f ? 0 : c + static_cast<size_t>(n) * v, v, guidance};

    unsigned long long last = ~0ull;
    if (top_k) last = select_rank<SAMPLE_THREADS>(select, top_k, LargestFirst{row});

    Draw draw = {MINUS_INFINITY, 0xFFFFFFFFu, MINUS_INFINITY, 0.0f};
    for (unsigned int i = 4 * threadIdx.x; i < v; i += 4 * SAMPLE_THREADS) {
        float x[4], score[4];
        row.four(x, i);
        uint4 words = {};
        if (temperature > 0.0f) words = philox({seed + image, step}, PURPOSE_TOKEN, position, i / 4);
        const unsigned int word[4] = {words.x, words.y, words.z, words.w};
        float most = MINUS_INFINITY;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (top_k && sort_key(-x[e], i + e) > last) x[e] = MINUS_INFINITY;
            score[e] = x[e];
            if (temperature > 0.0f) {
                x[e] = __fdiv_rn(x[e], temperature);
                score[e] = __fadd_rn(gumbel(word[e]), x[e]);
            }
            if (score[e] > draw.score) draw.score = score[e], draw.token = i + e;
            most = fmaxf(most, x[e]);
        }
        if (most > draw.largest) {
            draw.sum *= expf(draw.largest - most);
            draw.largest = most;
        }
        if (draw.largest == MINUS_INFINITY) continue;
#pragma unroll
        for (int e = 0; e < 4; e++) draw.sum += expf(x[e] - draw.largest);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) draw.merge(draw.from_lane(distance));
    if (threadIdx.x % 32 == 0) draws[threadIdx.x / 32] = draw;
    __syncthreads();
    if (threadIdx.x) return;
    for (int warp = 1; warp < SAMPLE_THREADS / 32; warp++) draw.merge(draws[warp]);
    // All -inf or NaN: no draw is better than another.
    const unsigned int token = draw.token < v ? draw.token : 0;
    float x = row.one(token);
    if (temperature > 0.0f) x = __fdiv_rn(x, temperature);
    sampled[j] = token;
    confidence[j] = (x - draw.largest) - ln(draw.sum);
}

// The keys of all positions, those of a thread.
struct LeastConfidentFirst {
    const float* confidence;  // [n]
    unsigned int n;

    template <class Take>
    __device__ __forceinline__ void operator()(Take take) const {
        for (unsigned int j = threadIdx.x; j < n; j += REMASK_THREADS) take(sort_key(confidence[j], j));
    }
};

// confidence[j] += temperature * Gumbel noise; of these the keep_masked smallest, of equals the first, are
// masked again: tokens[positions[j]] = masked ? mask_token : sampled[j], remaining = the masked positions.
//   tokens [cells] u32;  positions [n] u32, ascending;  remaining [keep_masked] u32;  sampled [n] u32;
//   confidence [n] f32;  keep_masked < n
// All of that for each of several images, one after another, whose seeds follow one another; positions count
// through the grids of all of them. A block of REMASK_THREADS an image; n < 2^22.
extern "C" __global__ __launch_bounds__(REMASK_THREADS) void remask(
    unsigned int* tokens, const unsigned int* positions, unsigned int* remaining, const unsigned int* sampled,
    float* confidence, unsigned int cells, unsigned int n, unsigned int keep_masked, float temperature,
    unsigned int mask_token, unsigned long long seed, unsigned int step) {
    take_turn();
    __shared__ Select select;
    __shared__ unsigned int counts[REMASK_THREADS / 32];
    const unsigned int lane = threadIdx.x % 32, warp = threadIdx.x / 32, image = blockIdx.x;
    positions += image * n, sampled += image * n, confidence += image * n, remaining += image * keep_masked;
    for (unsigned int j = threadIdx.x; j < n; j += REMASK_THREADS) {
        const unsigned int position = positions[j] - image * cells;
        const float noise = gumbel(philox({seed + image, step}, PURPOSE_CONFIDENCE, position, 0).x);
        confidence[j] = __fadd_rn(confidence[j], __fmul_rn(temperature, noise));
    }
    unsigned long long last = 0;
    if (keep_masked)
        last = select_rank<REMASK_THREADS>(select, keep_masked, LeastConfidentFirst{confidence, n});
    unsigned int before = 0;  // masked positions of earlier rounds
    for (unsigned int first = 0; first < n; first += REMASK_THREADS) {
        const unsigned int j = first + threadIdx.x;
        const bool masked = keep_masked && j < n && sort_key(confidence[j], j) <= last;
        const unsigned int vote = __ballot_sync(0xFFFFFFFFu, masked);
        if (lane == 0) counts[warp] = __popc(vote);
        __syncthreads();
        unsigned int slot = before + __popc(vote & ((1u << lane) - 1));
        for (unsigned int w = 0; w < REMASK_THREADS / 32; w++) {
            if (w < warp) slot += counts[w];
            before += counts[w];
        }
        __syncthreads();
        if (j < n) tokens[positions[j]] = masked ? mask_token : sampled[j];
        if (masked) remaining[slot] = positions[j];
    }
}
