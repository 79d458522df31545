// Attention. CPU twin: src/cpu/attention.rs.
#include "launch.h"
#include "prim/copy.cuh"
#include "prim/exp.cuh"
#include "prim/mma.cuh"
#include "prim/pack.cuh"
#include "prim/products.cuh"
#include "prim/reduce.cuh"
#include "prim/turn.cuh"

#define MINUS_INFINITY __int_as_float(0xFF800000)

// Rows of one head of one sequence within a wider tensor.
struct Operand {
    const bf16* data;     // of the head's first element
    unsigned int stride;  // elements from row to row
};

// The largest and the sum over the four lanes that share a row of a product.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
    return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

// Starts copying rows first .. first + rows to shared memory; rows from `end` on, and columns from
// `head_dim` on, become zero and are not read.
template <int D>
__device__ __forceinline__ void load_rows(unsigned int to, const Operand& x, unsigned int first, unsigned int end,
                                          unsigned int rows, unsigned int head_dim) {
    for (unsigned int i = threadIdx.x; i < rows * (D / 8); i += blockDim.x) {
        const unsigned int row = i / (D / 8), column = i % (D / 8) * 8;
        const bool inside = first + row < end && column < head_dim;
        const bf16* from = inside ? x.data + static_cast<size_t>(first + row) * x.stride + column : x.data;
        cp_async16(to + 2 * (row * (D + ATTENTION_PAD) + column), from, inside);
    }
}

// out = softmax(q k^T / sqrt(head_dim)) v, where `causal` of no key after the query's own, for M times
// ATTENTION_ROWS queries a warp, in one pass over the keys. At M = 2 every operand that is read from shared memory
// serves two products, which is what large images wait for; at M = 1 there are more blocks.
//
// Scores are taken in base 2 (`scale` = log2(e) / sqrt(head_dim)) and kept in f32 registers, with a running
// maximum and sum. Probabilities become bf16 for the second product; their sum is taken of what they have
// become, so that weights add up to 1. Keys come in double-buffered stages: [keys, values][ATTENTION_KEYS][ROW]
// in shared memory, of which the first is at `tiles`, there for the whole block, and the second before it, free.
//   query  the block's queries from `first` on, as operands of the first product, zeros past `queries`
template <int D, int M>
__device__ __forceinline__ void attend(bf16* out, const unsigned int (&query)[M][D / 16][4], unsigned char* tiles,
                                       const Operand& k, const Operand& v, unsigned int first, unsigned int queries,
                                       unsigned int length, unsigned int head_dim, unsigned int out_stride,
                                       float scale, bool causal) {
    constexpr unsigned int ROW = 2 * (D + ATTENTION_PAD);  // bytes of a row in shared memory
    constexpr unsigned int TILE = ATTENTION_KEYS * ROW;    // of a stage's keys, or values
    const unsigned int base = shared_address(tiles);
    const unsigned int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * ATTENTION_ROWS * M;

    float sums[M][D / 8][4] = {};      // [16 M, D] of a warp, not yet divided
    float largest[M][2], total[M][2];  // of rows lane/4 and 8 more, before scaling; of this lane's columns
#pragma unroll
    for (int m = 0; m < M; m++)
        largest[m][0] = largest[m][1] = MINUS_INFINITY, total[m][0] = total[m][1] = 0.0f;
    const unsigned int stages = (length + ATTENTION_KEYS - 1) / ATTENTION_KEYS;
    for (unsigned int stage = 0; stage < stages; stage++) {
        const unsigned int key = stage * ATTENTION_KEYS;
        const unsigned int keys = base - stage % 2 * (2 * TILE), values = keys + TILE;
        if (stage + 1 < stages) {
            const unsigned int next = base - (stage + 1) % 2 * (2 * TILE);
            load_rows<D>(next, k, key + ATTENTION_KEYS, length, ATTENTION_KEYS, head_dim);
            load_rows<D>(next + TILE, v, key + ATTENTION_KEYS, length, ATTENTION_KEYS, head_dim);
        }
        cp_async_commit();

        float score[M][ATTENTION_KEYS / 8][4] = {};  // [16 M, ATTENTION_KEYS] of a warp
#pragma unroll
        for (int c = 0; c < D / 16; c++)
#pragma unroll
            for (int j = 0; j < ATTENTION_KEYS / 16; j++) {
                unsigned int b[4];
                ldmatrix_x4(b, keys + (16 * j + lane / 16 * 8 + lane % 8) * ROW + 32 * c + lane / 8 % 2 * 16);
#pragma unroll
                for (int m = 0; m < M; m++) {
                    mma_bf16_m16n8k16(score[m][2 * j], query[m][c], b[0], b[1]);
                    mma_bf16_m16n8k16(score[m][2 * j + 1], query[m][c], b[2], b[3]);
                }
            }
        if (key + ATTENTION_KEYS > length) {
#pragma unroll
            for (int j = 0; j < ATTENTION_KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (key + 8 * j + lane % 4 * 2 + e % 2 >= length)
#pragma unroll
                        for (int m = 0; m < M; m++) score[m][j][e] = MINUS_INFINITY;
        }
        if (causal && key + ATTENTION_KEYS > first + mine + 1) {
#pragma unroll
            for (int j = 0; j < ATTENTION_KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
#pragma unroll
                    for (int m = 0; m < M; m++)
                        if (key + 8 * j + lane % 4 * 2 + e % 2 > first + mine + 16 * m + 8 * (e / 2) + lane / 4)
                            score[m][j][e] = MINUS_INFINITY;
        }

        float offset[M][2];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float before = largest[m][h];
#pragma unroll
                for (int j = 0; j < ATTENTION_KEYS / 8; j++)
                    largest[m][h] = fmaxf(largest[m][h], fmaxf(score[m][j][2 * h], score[m][j][2 * h + 1]));
                largest[m][h] = row_max(largest[m][h]);
                offset[m][h] = -largest[m][h] * scale;
                const float shrink = exp2_approx(fmaf(before, scale, offset[m][h]));
                total[m][h] *= shrink;
#pragma unroll
                for (int c = 0; c < D / 8; c++) sums[m][c][2 * h] *= shrink, sums[m][c][2 * h + 1] *= shrink;
            }

#pragma unroll
        for (int j = 0; j < ATTENTION_KEYS / 16; j++) {
            // Two 8-column sums are laid out as one 16-column operand.
            unsigned int p[M][4];
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float* s = &score[m][2 * j + i / 2][i % 2 * 2];
                    p[m][i] = pack2(exp2_approx(fmaf(s[0], scale, offset[m][i % 2])),
                                    exp2_approx(fmaf(s[1], scale, offset[m][i % 2])));
                    total[m][i % 2] += __uint_as_float(p[m][i] << 16) + __uint_as_float(p[m][i] & 0xFFFF0000u);
                }
#pragma unroll
            for (int c = 0; c < D / 16; c++) {
                unsigned int b[4];
                ldmatrix_x4_trans(b, values + (16 * j + lane % 16) * ROW + 32 * c + lane / 16 * 16);
#pragma unroll
                for (int m = 0; m < M; m++) {
                    mma_bf16_m16n8k16(sums[m][2 * c], p[m], b[0], b[1]);
                    mma_bf16_m16n8k16(sums[m][2 * c + 1], p[m], b[2], b[3]);
                }
            }
        }
        cp_async_wait<0>();
        __syncthreads();
    }

    // Through shared memory, each warp its own rows, so that stores are 16 bytes.
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float divisor = row_sum(total[m][h]);
            unsigned char* row = tiles + (mine + 16 * m + 8 * h + lane / 4) * ROW;
#pragma unroll
            for (int c = 0; c < D / 8; c++)
                *reinterpret_cast<unsigned int*>(row + 16 * c + lane % 4 * 4) =
                    pack2(sums[m][c][2 * h] / divisor, sums[m][c][2 * h + 1] / divisor);
        }
    __syncwarp();
    for (unsigned int i = lane; i < ATTENTION_ROWS * M * (D / 8); i += 32) {
        const unsigned int row = mine + i / (D / 8), column = i % (D / 8) * 8;
        if (first + row < queries && column < head_dim)
            *reinterpret_cast<uint4*>(out + static_cast<size_t>(first + row) * out_stride + column) =
                *reinterpret_cast<const uint4*>(tiles + row * ROW + 2 * column);
    }
}

// Attention of queries that are there.
template <int D, int M>
__device__ __forceinline__ void attention(bf16* out, const Operand& q, const Operand& k, const Operand& v,
                                          unsigned int queries, unsigned int length, unsigned int head_dim,
                                          unsigned int out_stride, float scale, bool causal) {
    take_turn();
    constexpr unsigned int ROW = 2 * (D + ATTENTION_PAD), TILE = ATTENTION_KEYS * ROW;
    extern __shared__ __align__(128) unsigned char memory[];  // the second stage, the first
    const unsigned int base = shared_address(memory), stage = base + 2 * TILE;
    const unsigned int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * ATTENTION_ROWS * M;
    const unsigned int rows = blockDim.x / 32 * ATTENTION_ROWS * M, first = blockIdx.x * rows;
    if (causal) length = min(length, first + rows);  // all that the block's last query sees

    load_rows<D>(base, q, first, queries, rows, head_dim);
    load_rows<D>(stage, k, 0, length, ATTENTION_KEYS, head_dim);
    load_rows<D>(stage + TILE, v, 0, length, ATTENTION_KEYS, head_dim);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    unsigned int query[M][D / 16][4];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int c = 0; c < D / 16; c++)
            ldmatrix_x4(query[m][c], base + (mine + 16 * m + lane % 16) * ROW + 32 * c + lane / 16 * 16);
    __syncthreads();
    attend<D, M>(out, query, memory + 2 * TILE, k, v, first, queries, length, head_dim, out_stride, scale, causal);
}

// Attention of queries that are the products of `place`: rows of x [m, size] and a head's D columns of
// w [n, size rounded up to 8].
template <unsigned int D>
__device__ __forceinline__ void project_and_attend(bf16* out, const bf16* x, const bf16* w, unsigned int size,
                                                   const Place& place, const Operand& k, const Operand& v,
                                                   unsigned int first, unsigned int queries, unsigned int length,
                                                   float scale) {
    constexpr unsigned int TILE = ATTENTION_KEYS * 2 * (D + ATTENTION_PAD);
    constexpr unsigned int STAGES = PROJECT_STAGES * (PROJECT_ROWS + D) * 128;
    static_assert(PROJECT_ROWS == GEMM_THREADS / 32 * ATTENTION_ROWS && 2 * TILE <= STAGES, "a warp's rows");
    extern __shared__ __align__(128) unsigned char memory[];
    float sums[1][D / 8][4];
    products<PROJECT_ROWS, D, ATTENTION_ROWS, D, PROJECT_STAGES>(sums, memory, MatrixRows{x, size, 1}, w, place, [&] {
        const unsigned int stage = shared_address(memory) + STAGES;
        load_rows<D>(stage, k, 0, length, ATTENTION_KEYS, D);
        load_rows<D>(stage + TILE, v, 0, length, ATTENTION_KEYS, D);
    });
    unsigned int query[1][D / 16][4];
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float* s = &sums[0][2 * c + i / 2][i % 2 * 2];
            query[0][c][i] = pack2(s[0], s[1]);
        }
    attend<D, 1>(out, query, memory + STAGES, k, v, first, queries, length, D, place.n, scale, false);
}

// Keys, values and output of sequence blockIdx.y / heads, head blockIdx.y % heads; QUERIES: its queries, too.
//   out [batch*queries, out_stride] bf16, rounded once
//   q [batch*queries, q_stride], k [batch*keys, k_stride], v [batch*keys, v_stride] bf16, all from the column
//   where the first head begins; the first `length0` keys of each sequence of the first half exist, `length1` of
//   the others (the middle one is of the first half); the rest is not read. `step` sequences take turns, row by row.
#define OPERANDS                                                                                               \
    const unsigned int sequence = blockIdx.y / heads, head = blockIdx.y % heads;                               \
    const unsigned int length = sequence < (gridDim.y / heads + 1) / 2 ? length0 : length1;                    \
    const size_t column = head * head_dim, turn = sequence % step, before = sequence - turn,                   \
                 query = before * queries + turn, key = before * keys + turn;                                  \
    const Operand ks = {k + key * k_stride + column, k_stride * step},                                         \
                  vs = {v + key * v_stride + column, v_stride * step};                                         \
    bf16* to = out + query * out_stride + column;
#define QUERIES const Operand qs = {q + query * q_stride + column, q_stride * step};

// Heads of up to D channels, a multiple of 8; operands aligned to 16 bytes, strides multiples of 8.
// Grid (ceil(queries / (ATTENTION_ROWS * M * warps)), batch*heads), block 32 * warps, warps up to
// ATTENTION_WARPS; shared memory 4 * ATTENTION_KEYS * (D + ATTENTION_PAD) bf16. One block a multiprocessor is
// enough: on some architectures ptxas would spill for the sake of more. Causal at M = 1 only: `causal` 0 or 1.
#define ATTENTION(D, M)                                                                                        \
    extern "C" __global__ __launch_bounds__(32 * ATTENTION_WARPS, 1) void attention_##D##x##M(                 \
        bf16* out, const bf16* q, const bf16* k, const bf16* v, unsigned int out_stride, unsigned int q_stride, \
        unsigned int k_stride, unsigned int v_stride, unsigned int heads, unsigned int head_dim,               \
        unsigned int queries, unsigned int keys, unsigned int length0, unsigned int length1,                   \
        unsigned int step, unsigned int causal, float scale) {                                                 \
        OPERANDS QUERIES                                                                                       \
        attention<D, M>(to, qs, ks, vs, queries, length, head_dim, out_stride * step, scale, M == 1 && causal); \
    }
ATTENTION(32, 1)
ATTENTION(32, 2)
ATTENTION(64, 1)
ATTENTION(64, 2)
ATTENTION(80, 1)
ATTENTION(96, 1)
ATTENTION(128, 1)

// Attention of queries that a linear layer makes: q = x * wᵀ, rounded to bf16.
//   x [batch*queries, size] bf16;  w [heads*D, kp] bf16, kp = size rounded up to 8, zeros there, aligned to 16 bytes
//   as x;  the rest as above, heads being of D channels
// f32 sums in ascending k, 16 at a time. A warp's sums are laid out as operands of its next product, so queries
// stay in registers. Grid (ceil(queries / PROJECT_ROWS), batch*heads), block GEMM_THREADS; shared memory
// PROJECT_STAGES * (PROJECT_ROWS + D) * 128 bytes for the products, in whose place the second stage of keys and
// values comes, and 2 * ATTENTION_KEYS * (D + ATTENTION_PAD) bf16 for the first.
#define PROJECT_AND_ATTEND(D)                                                                                  \
    extern "C" __global__ __launch_bounds__(GEMM_THREADS, 1) void project_and_attend_##D(                      \
        bf16* out, const bf16* x, const bf16* w, const bf16* k, const bf16* v, unsigned int size,              \
        unsigned int k_stride, unsigned int v_stride, unsigned int heads, unsigned int queries,                \
        unsigned int keys, unsigned int length0, unsigned int length1, float scale) {                          \
        constexpr unsigned int head_dim = D, step = 1;                                                         \
        const unsigned int out_stride = heads * D;                                                             \
        OPERANDS                                                                                               \
        const unsigned int first = blockIdx.x * PROJECT_ROWS, row = sequence * queries;                        \
        const Place place = {row + first, row + queries, head * D, out_stride, 0, 1};                          \
        project_and_attend<D>(to, x, w, size, place, ks, vs, first, queries, length, scale);                   \
    }
PROJECT_AND_ATTEND(64)

// Heads and alignments that the tiles above do not fit: a warp takes a query and 32 columns, one key at a
// time, probabilities f32. Slow, and right for every size.
// Grid (ceil(queries / ATTENTION_PLAIN_WARPS), batch*heads, ceil(head_dim / 32)),
// block 32 * ATTENTION_PLAIN_WARPS. Arguments as above.
extern "C" __global__ __launch_bounds__(32 * ATTENTION_PLAIN_WARPS) void attention_plain(
    bf16* out, const bf16* q, const bf16* k, const bf16* v, unsigned int out_stride, unsigned int q_stride,
    unsigned int k_stride, unsigned int v_stride, unsigned int heads, unsigned int head_dim, unsigned int queries,
    unsigned int keys, unsigned int length0, unsigned int length1, unsigned int step, unsigned int causal,
    float scale) {
    take_turn();
    OPERANDS QUERIES
    const unsigned int lane = threadIdx.x % 32, row = blockIdx.x * ATTENTION_PLAIN_WARPS + threadIdx.x / 32;
    if (row >= queries) return;
    const bf16* a = qs.data + static_cast<size_t>(row) * qs.stride;  // [head_dim]
    const unsigned int c = blockIdx.z * 32 + lane;
    const unsigned int seen = causal ? min(length, row + 1) : length;
    float largest = MINUS_INFINITY, total = 0.0f, sum = 0.0f;
    for (unsigned int j = 0; j < seen; j++) {
        const bf16* b = ks.data + static_cast<size_t>(j) * ks.stride;  // [head_dim]
        float score = 0.0f;
        for (unsigned int i = lane; i < head_dim; i += 32) score += widen(a[i]) * widen(b[i]);
        score = warp_sum(score) * scale;
        const float next = fmaxf(largest, score);
        const float shrink = exp2_approx(largest - next), p = exp2_approx(score - next);
        largest = next;
        total = total * shrink + p;
        if (c < head_dim) sum = sum * shrink + p * widen(vs.data[static_cast<size_t>(j) * vs.stride + c]);
    }
    if (c < head_dim) to[static_cast<size_t>(row) * out_stride * step + c] = rounded<bf16>(sum / total);
}
