// Tensor cores for a group of four warps, with operands in shared memory; for compute_90a alone.

extern "C" __global__ void __launch_bounds__(128) warpgroup(const unsigned long long* descriptors, float* out) {
    float d[8] = {};
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %10, 0;\n"
                 "  wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16\n"
                 "  {%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, p, 1, 1, 0, 0; }"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
                 : "l"(descriptors[0]), "l"(descriptors[1]), "r"(1));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    for (int i = 0; i < 8; i++) out[threadIdx.x * 8 + i] = d[i];
}
