// Calls of device functions: by name, by address, recursive, with structures; and what the runtime
// provides: printf and assert.

#define NOINLINE __device__ __noinline__

struct Pair {
    float sum;
    int count;
    double weight;
};

NOINLINE Pair combine(Pair a, Pair b) {
    return {a.sum + b.sum, a.count + b.count, a.weight * b.weight};
}

// out[t] = combine of x[t] and its mirror image; lanes of odd t do not call.
extern "C" __global__ void structures(Pair* out, const float* x, int n) {
    const int t = threadIdx.x;
    if (t >= n) return;
    Pair mine = {x[t], 1, 0.5};
    if (t % 2 == 0) mine = combine(mine, Pair{x[n - 1 - t], 10, 3.0});
    out[t] = mine;
}

NOINLINE int ackermann(int m, int n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

// out[t] = A(t % 3, t / 3): lanes recurse to different depths.
extern "C" __global__ void recursion(int* out) { out[threadIdx.x] = ackermann(threadIdx.x % 3, threadIdx.x / 3); }

NOINLINE int endless(volatile int* stop, int x) {
    return *stop < 0 ? x : endless(stop, x + 1) ^ endless(stop, x ^ 3);
}

extern "C" __global__ void overflow(int* out) { out[0] = endless(out, 1); }

typedef int (*Function)(int);
NOINLINE int twice(int x) { return 2 * x; }
NOINLINE int square(int x) { return x * x; }
NOINLINE int below(int x) { return x - 1; }
__device__ Function const table[3] = {twice, square, below};

// out[t] = table[choice[t]](t): a warp calls up to three functions at one instruction.
extern "C" __global__ void pointers(int* out, const int* choice) {
    out[threadIdx.x] = table[choice[threadIdx.x]](threadIdx.x);
}

// A function with a barrier and shared memory of its own: the block's sum of x, to all.
NOINLINE int block_sum(int x) {
    __shared__ int total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    atomicAdd(&total, x);
    __syncthreads();
    return total;
}

extern "C" __global__ void sums(int* out) {
    const int all = block_sum(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = all + block_sum(1);
}

extern "C" int printf(const char*, ...);

extern "C" __global__ void prints(int n) {
    const int t = threadIdx.x;
    if (t == 1) printf("%d %i %u %5d|%-5d|%05d %+d %x %X %o %c %%\n", -n, n, 4000000000u, n, n, n, n, 48879, 48879, 8, 'A' + t);
    if (t == 2) printf("%lld %llu %lx %s [%8s] [%-8s] %.3s\n", -5000000000ll, 18000000000000000000ull, 255ul, "text", "right", "left", "cut off");
    if (t == 3) printf("%f %.2f %e %g %10.3f %*d\n", 1.5, -2.345, 12345.678, 0.0001, 3.14159265, 4, 7);
    if (t == 4 && printf("%d %d %d\n", 1, 2, 3) != 3) printf("printf returns the number of its arguments\n");
}

extern "C" __global__ void asserts(const int* x, int limit) {
    if (!(x[threadIdx.x] < limit)) __assertfail("x[t] < limit", "calls.cu", __LINE__, "asserts", 1);  // ASSERT
}
