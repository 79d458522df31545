// Narrow numbers: f16, bf16, fp8 and int8, in conversions, arithmetic and tensor cores.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void halves(const float* x, __half2* h, __nv_bfloat162* b, float* out) {
    int i = threadIdx.x;
    __half2 u = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
    u = __hfma2(u, __float2half2_rn(0.5f), __hadd2(u, u));
    h[i] = __hmax2(u, __hmul2(u, u));
    __nv_bfloat162 v = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    v = __hfma2(v, v, __hmul2(v, __float2bfloat162_rn(0.25f)));
    b[i] = __hmin2(v, __hneg2(v));
    out[4 * i] = __low2float(u) + __high2float(v);
    out[4 * i + 1] = __half2float(hsqrt(__habs(__low2half(u)))) + __bfloat162float(hexp2(__low2bfloat16(v)));
    out[4 * i + 2] = __hlt(__low2half(u), __high2half(u)) ? 1.0f : __half2int_rn(__high2half(u));
    out[4 * i + 3] = __uint2float_rn(__half_as_ushort(__float2half_rz(x[i]))) + __bfloat162float(__float2bfloat16_ru(x[i]));
}

extern "C" __global__ void integer_mma(const unsigned* a, const unsigned* b, int* d) {
    int lane = threadIdx.x, sum[4] = {1, 2, 3, 4};
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(a[lane + 64]), "r"(a[lane + 96]), "r"(b[lane]), "r"(b[lane + 32]));
    asm volatile("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                 "{%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(a[lane + 64]), "r"(a[lane + 96]), "r"(b[lane]), "r"(b[lane + 32]));
    for (int i = 0; i < 4; i++) d[lane * 4 + i] = sum[i];
}

extern "C" __global__ void half_mma(const unsigned* a, const unsigned* b, float* d, unsigned* packed) {
    int lane = threadIdx.x;
    float sum[4] = {};
    unsigned narrow[2] = {};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%10, %10, %10, %10};"
                 : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(a[lane + 64]), "r"(a[lane + 96]), "r"(b[lane]), "r"(b[lane + 32]),
                   "f"(0.0f));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
                 : "+r"(narrow[0]), "+r"(narrow[1])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(b[lane]));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(a[lane + 64]), "r"(a[lane + 96]), "r"(b[lane]), "r"(b[lane + 32]));
    for (int i = 0; i < 4; i++) d[lane * 4 + i] = sum[i];
    packed[lane * 2] = narrow[0];
    packed[lane * 2 + 1] = narrow[1];
}

// Conversions of fp8 came with the tensor cores of compute capability 8.9.
#if __CUDA_ARCH__ >= 890
#include <cuda_fp8.h>

extern "C" __global__ void eights(const float* x, unsigned char* out, float* back) {
    int i = threadIdx.x;
    __nv_fp8_e4m3 e4 = __nv_fp8_e4m3(x[i]);
    __nv_fp8_e5m2 e5 = __nv_fp8_e5m2(x[i]);
    out[2 * i] = e4.__x;
    out[2 * i + 1] = e5.__x;
    back[i] = float(e4) + float(e5);
}

extern "C" __global__ void eight_mma(const unsigned* a, const unsigned* b, float* d) {
    int lane = threadIdx.x;
    float sum[4] = {};
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[lane]), "r"(a[lane + 32]), "r"(a[lane + 64]), "r"(a[lane + 96]), "r"(b[lane]), "r"(b[lane + 32]));
    for (int i = 0; i < 4; i++) d[lane * 4 + i] = sum[i];
}
#endif
