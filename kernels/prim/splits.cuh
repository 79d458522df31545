// Several blocks share the products of a tile: each sums a part of k, and the last to arrive adds the parts.
#pragma once
#include "../launch.h"
#include "pack.cuh"

// The parts of the product under way, [splits][tiles][BM * BN]. All launches go through one stream, so there is
// one user at a time.
__device__ __align__(16) float split_parts[GEMM_PART_SLOTS];
// Blocks of each tile that have left their part; 0 between launches.
__device__ unsigned int split_arrived[GEMM_TILE_SLOTS];

// Leaves this block's part of the tile; true, with the sum of all parts in `tile`, for the last of the gridDim.z
// blocks. Parts are added in the order of their blocks, whichever is the last.
//   tile [BM, PITCH] f32 in shared memory, complete
template <int BM, int BN, int PITCH>
__device__ __forceinline__ bool add_splits(float* tile) {
    __shared__ bool last;
    const unsigned int tiles = gridDim.x * gridDim.y, index = blockIdx.y * gridDim.x + blockIdx.x;
    float* parts = split_parts + static_cast<size_t>(index) * (BM * BN);  // of z = 0
    const size_t next = static_cast<size_t>(tiles) * (BM * BN);
    for (unsigned int i = 4 * threadIdx.x; i < BM * BN; i += 4 * blockDim.x)
        store4(parts + blockIdx.z * next + i, load4(tile + i / BN * PITCH + i % BN));
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(&split_arrived[index], gridDim.z - 1) == gridDim.z - 1;
    __syncthreads();
    if (!last) return false;
    __threadfence();
    constexpr unsigned int EACH = BM * BN / 4 / GEMM_THREADS;
#pragma unroll 8
    for (unsigned int e = 0; e < EACH; e++) {
        const unsigned int i = 4 * (e * GEMM_THREADS + threadIdx.x);
        float4 sum = __ldcg(reinterpret_cast<const float4*>(parts + i));
        for (unsigned int z = 1; z < gridDim.z; z++) {
            const float4 part = __ldcg(reinterpret_cast<const float4*>(parts + z * next + i));
            sum = make_float4(sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w);
        }
        store4(tile + i / BN * PITCH + i % BN, sum);
    }
    __syncthreads();
    return true;
}
