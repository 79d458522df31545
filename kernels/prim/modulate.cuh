// AdaLN's modulation: x * (1 + s) + t.
#pragma once
#include "pack.cuh"

// Scales s and shifts t of each sequence: of d channels, d scales and then d shifts, at any alignment.
struct Modulation {
    const float* first;           // of the first sequence; null for no modulation
    unsigned int stride;          // f32 from one sequence's to the next's
    unsigned int sequence;        // rows of x in a sequence
    // Those of row r of x.
    __device__ __forceinline__ const float* of(unsigned int r) const {
        return first ? first + static_cast<size_t>(r / sequence) * stride : nullptr;
    }
};

// Channel c of d.
__device__ __forceinline__ float modulated(float x, const float* by, unsigned int c, unsigned int d) {
    return x * (1.0f + by[c]) + by[c + d];
}

// The four channels from c on, where 4 divides c and d.
__device__ __forceinline__ float4 modulated(float4 x, const float* by, unsigned int c, unsigned int d) {
    const float *scales = by + c, *shifts = scales + d;
    float4 s, t;
    if (reinterpret_cast<size_t>(by) % 16 == 0) {
        s = load4(scales), t = load4(shifts);
    } else {
        s = make_float4(scales[0], scales[1], scales[2], scales[3]);
        t = make_float4(shifts[0], shifts[1], shifts[2], shifts[3]);
    }
    return make_float4(x.x * (1.0f + s.x) + t.x, x.y * (1.0f + s.y) + t.y, x.z * (1.0f + s.z) + t.z,
                       x.w * (1.0f + s.w) + t.w);
}
