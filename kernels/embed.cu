// Rows picked by an index. CPU twin: src/cpu/embed.rs.
#include "launch.h"
#include "prim/pack.cuh"
#include "prim/turn.cuh"

// out[r] = table[ids[r mod n]] + add[r mod n], one block a row.
//   out   [rows, d] f32 | bf16   rounded once
//   ids   [n] u32, each below the table's rows
//   table [v, d] f32 | bf16
//   add   [n, d] f32, or null
// Grid rows, block ROW_THREADS. All pointers aligned to 16 bytes.
template <class Out, class Table>
__device__ void embed(Out* out, const unsigned int* ids, const Table* table, const float* add, unsigned int n,
                      unsigned int d) {
    take_turn();
    const unsigned int r = blockIdx.x, i = r % n;
    const Table* row = table + static_cast<size_t>(ids[i]) * d;      // [d]
    const float* more = add ? add + static_cast<size_t>(i) * d : 0;  // [d]
    Out* to = out + static_cast<size_t>(r) * d;                      // [d]
    if (d % 4 == 0) {
        for (unsigned int c = 4 * threadIdx.x; c < d; c += 4 * ROW_THREADS) {
            float4 x = load4(row + c);
            if (more) {
                const float4 y = load4(more + c);
                x = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
            }
            store4(to + c, x);
        }
    } else {
        for (unsigned int c = threadIdx.x; c < d; c += ROW_THREADS) {
            const float x = widen(row[c]);
            to[c] = rounded<Out>(more ? x + more[c] : x);
        }
    }
}

#define EMBED(name, Out, Table)                                                                              \
    extern "C" __global__ __launch_bounds__(ROW_THREADS) void name(                                          \
        Out* out, const unsigned int* ids, const Table* table, const float* add, unsigned int n,             \
        unsigned int d) {                                                                                    \
        embed(out, ids, table, add, n, d);                                                                   \
    }
EMBED(embed_f32_f32, float, float)
EMBED(embed_f32_bf16, float, bf16)
EMBED(embed_bf16_f32, bf16, float)
EMBED(embed_bf16_bf16, bf16, bf16)

// out[i*n + j] = x[i*grid + positions[j]], one block a row.
//   out [b*n, d] f32, x [b*grid, d] f32, positions [n] u32, each below grid
// Grid b*n, block ROW_THREADS. All pointers aligned to 16 bytes.
extern "C" __global__ __launch_bounds__(ROW_THREADS) void select_rows(float* out, const float* x,
                                                                      const unsigned int* positions,
                                                                      unsigned int n, unsigned int grid,
                                                                      unsigned int d) {
    take_turn();
    const unsigned int i = blockIdx.x / n, j = blockIdx.x % n;
    const float* from = x + (static_cast<size_t>(i) * grid + positions[j]) * d;  // [d]
    float* to = out + static_cast<size_t>(blockIdx.x) * d;                       // [d]
    if (d % 4 == 0) {
        for (unsigned int c = 4 * threadIdx.x; c < d; c += 4 * ROW_THREADS) store4(to + c, load4(from + c));
    } else {
        for (unsigned int c = threadIdx.x; c < d; c += ROW_THREADS) to[c] = from[c];
    }
}

// out[i] = x[i] for `bytes` bytes: rows that lie together. Words where both ends allow it.
// Grid ceil(bytes / (16 * ELEMENTWISE_THREADS)), block ELEMENTWISE_THREADS.
extern "C" __global__ __launch_bounds__(ELEMENTWISE_THREADS) void copy_bytes(unsigned char* out,
                                                                             const unsigned char* x,
                                                                             unsigned int bytes) {
    take_turn();
    const unsigned int at = 16 * (blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x);
    if (at >= bytes) return;
    const bool aligned = (reinterpret_cast<size_t>(out) | reinterpret_cast<size_t>(x)) % 16 == 0;
    if (aligned && bytes - at >= 16) {
        *reinterpret_cast<uint4*>(out + at) = *reinterpret_cast<const uint4*>(x + at);
    } else {
        const unsigned int end = min(bytes, at + 16);
        for (unsigned int i = at; i < end; i++) out[i] = x[i];
    }
}
