// Tensor-core products of bf16 tiles, and the loads that lay their operands out.
//
// In a warp, lane l has row l/4 (and 8 more) of A and of the sums, columns 2*(l%4) and the next one.
#pragma once

// sums [16, 8] f32 += a [16, 16] * b [16, 8], b held by columns.
__device__ __forceinline__ void mma_bf16_m16n8k16(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0,
                                                  unsigned int b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8x8 matrices; lanes 8i .. 8i+7 give the addresses of the rows of matrix i.
__device__ __forceinline__ void ldmatrix_x4(unsigned int (&to)[4], unsigned int from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned int (&to)[4], unsigned int from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}
