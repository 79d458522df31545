// What compute capability 9.0 brought: barriers in memory, bulk and tensor copies, clusters.

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void wait(unsigned barrier, unsigned parity) {
    asm volatile("{ .reg .pred done;\n"
                 "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "  @done bra DONE;\n"
                 "  bra AGAIN;\n"
                 "DONE: }" ::"r"(barrier), "r"(parity) : "memory");
}

extern "C" __global__ void bulk_copy(const float* x, float* out) {
    __shared__ __align__(128) float tile[256];
    __shared__ unsigned long long barrier;
    const unsigned at = shared_address(&barrier), to = shared_address(tile);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(1024) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                     "l"(x + blockIdx.x * 256), "r"(1024), "r"(at)
                     : "memory");
    }
    __syncthreads();
    wait(at, 0);
    tile[threadIdx.x] *= 2.0f;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(out + blockIdx.x * 256), "r"(to),
                     "r"(1024)
                     : "memory");
        asm volatile("cp.async.bulk.commit_group;");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}

struct __align__(64) TensorMap {
    unsigned char opaque[128];
};

extern "C" __global__ void tensor_copy(const __grid_constant__ TensorMap map, float* out) {
    __shared__ __align__(128) float tile[256];
    __shared__ unsigned long long barrier;
    const unsigned at = shared_address(&barrier), to = shared_address(tile);
    unsigned leader;
    asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }" : "=r"(leader));
    if (leader && threadIdx.x < 32) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at));
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(at) : "memory");
        asm volatile("prefetch.tensormap [%0];" ::"l"(&map));
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
                     "[%1, {%2, %3}], [%4];" ::"r"(to),
                     "l"(&map), "r"(blockIdx.x * 16), "r"(blockIdx.y * 16), "r"(at)
                     : "memory");
    }
    __syncthreads();
    wait(at, 0);
    out[(blockIdx.y * gridDim.x + blockIdx.x) * 256 + threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) neighbours(const int* x, int* out) {
    __shared__ int mine;
    unsigned rank, remote;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) mine = x[blockIdx.x];
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared_address(&mine)), "r"(rank ^ 1));
    int other;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(other) : "r"(remote));
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) out[blockIdx.x] = other;
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
}
