// Functions that are called: what the host says of their depth, printf and assert.

struct Pair {
    long long first;
    float second[3];
};

__device__ __noinline__ Pair swapped(Pair p, int by) {
    Pair q;
    q.first = (long long)p.second[0] + by;
    q.second[0] = p.first;
    q.second[1] = p.second[2];
    q.second[2] = p.second[1];
    return q;
}

// Each call keeps something of its own across the next; no loop does the same.
__device__ __noinline__ int chain(int n) {
    int kept[4] = {n, n + 5, n + 7, n + 11};
    if (n <= 0) return 1;
    int below = chain(n - 1);
    return (below * 31) ^ kept[below & 3];
}

__device__ __noinline__ int plus(int x) { return x + 1000; }
__device__ __noinline__ int minus(int x) { return x - 1000; }
__device__ __noinline__ int lanes(int x) { return x + __shfl_xor_sync(__activemask(), x, 0); }
typedef int (*Function)(int);
__device__ Function functions[3] = {plus, minus, lanes};

extern "C" __global__ void calls(const int* depth, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = chain(depth[i]);
    out[n + i] = functions[i % 3](i);
    Pair p = {i, {2.0f * i, 3.0f * i, 5.0f * i}};
    p = swapped(p, 7);
    out[2 * n + i] = p.first + 10 * p.second[0] + 100 * p.second[1] + 1000 * p.second[2];
}

extern "C" __global__ void prints(const char* text) {
    int i = threadIdx.x;
    printf("%d|%5d|%-5d|%+d|%05d|%i\n", -i, i, i, i, i, i);
    printf("%u %x %X %#o %lld %llu\n", 4000000000u, 0xBEEFu, 0xBEEFu, 8u, -5000000000LL, 1ull << 63);
    printf("%f %.3f %10.2e %g %c %s %p %%\n", 1.5, 2.0f / 3.0f, 12345.678, 1e-7, 'A' + i, text, (void*)0x1234);
    printf("%*d %.*f\n", 6, 42, 2, 8.25);
    int written = printf("%hd %ld\n", 7, 9L);
    if (written != 2) printf("wrong: %d\n", written);
}

extern "C" __global__ void announces() { printf("block %d\n", blockIdx.x); }

// Without <assert.h>, which this compiler does not have: what its macro comes to.
extern "C" __device__ void __assertfail(const char*, const char*, unsigned, const char*, size_t);

extern "C" __global__ void asserts(const int* x) {
    if (x[threadIdx.x] < 0) __assertfail("x >= 0", "calls.cu", 123, "asserts", 1);
}
