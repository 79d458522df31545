// Exponentials by the special function unit.
#pragma once

// 2^x to 2 ulp; 0 for -inf and wherever the result would be subnormal.
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
