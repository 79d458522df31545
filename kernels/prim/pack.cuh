// bf16 and f32 side by side: loads that widen, stores that round to nearest even, once.
#pragma once
#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T rounded(float x);
template <>
__device__ __forceinline__ float rounded<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 rounded<bf16>(float x) { return __float2bfloat16_rn(x); }

// Four neighbours. The address is a multiple of four elements.
template <class T>
__device__ __forceinline__ float4 load4(const T* from);
template <>
__device__ __forceinline__ float4 load4<float>(const float* from) {
    return *reinterpret_cast<const float4*>(from);
}
template <>
__device__ __forceinline__ float4 load4<bf16>(const bf16* from) {
    const uint2 raw = *reinterpret_cast<const uint2*>(from);
    return make_float4(__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xFFFF0000u),
                       __uint_as_float(raw.y << 16), __uint_as_float(raw.y & 0xFFFF0000u));
}

// What rounding to bf16 takes from x: exact but where x rounds to infinity.
__device__ __forceinline__ float lost(float x) { return x - widen(rounded<bf16>(x)); }
__device__ __forceinline__ float4 lost(float4 x) { return make_float4(lost(x.x), lost(x.y), lost(x.z), lost(x.w)); }

__device__ __forceinline__ unsigned int pack2(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned int*>(&pair);
}

__device__ __forceinline__ void store4(float* to, float4 x) { *reinterpret_cast<float4*>(to) = x; }
__device__ __forceinline__ void store4(bf16* to, float4 x) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack2(x.x, x.y), pack2(x.z, x.w));
}
