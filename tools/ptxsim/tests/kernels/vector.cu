// The first program of every CUDA book.

extern "C" __global__ void add(const float* a, const float* b, float* sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + b[i];
}

// Four elements a thread in a grid-stride loop: vector loads, fused multiply-add.
extern "C" __global__ void scale_add(float4* y, const float4* x, float scale, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float4 u = y[i], v = x[i];
        u.x = fmaf(scale, v.x, u.x);
        u.y = fmaf(scale, v.y, u.y);
        u.z = fmaf(scale, v.z, u.z);
        u.w = fmaf(scale, v.w, u.w);
        y[i] = u;
    }
}

// A block's sum in shared memory, then one atomic addition.
extern "C" __global__ void sum(const float* x, float* total, int n) {
    extern __shared__ float partial[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    partial[threadIdx.x] = i < n ? x[i] : 0.0f;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    if (threadIdx.x == 0) atomicAdd(total, partial[0]);
}
