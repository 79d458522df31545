// Control flow: switches, calls, recursion, functions by address.

__constant__ int table[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
__device__ float scale = 2.5f;
__device__ int* cursor = nullptr;
struct Setting {
    int id;
    double weight;
    char name[5];
};
__device__ Setting setting = {7, 0.5, {'p', 't', 'x'}};

// Cases far enough apart in what they do that the compiler makes a table of branches of them.
extern "C" __global__ void choose(const int* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = i;
    switch (x[i]) {
    case 0: v = sqrtf(v); break;
    case 1: v = v * 3.0f + out[i]; break;
    case 2: for (int k = 0; k < i; k++) v += out[k & 7] * v; break;
    case 3: v = out[0] / (v + 1.0f); break;
    case 4: out[n + i] = v; v = 0.0f; break;
    case 5: v = v > 3.0f ? out[2] : out[3] - v; // falls through
    case 6: v = fabsf(v) + 1.0f; break;
    case 7: v = rsqrtf(v + 2.0f); break;
    case 8: while (v > 1.0f) v *= 0.5f; break;
    case 9: v = out[(i * 7) % n]; break;
    case 11: v = -v; break;
    default: v = 99.0f;
    }
    out[i] = v;
}

__device__ __noinline__ float horner(const float* c, int n, float x) {
    float sum = 0.0f;
    for (int i = n - 1; i >= 0; i--) sum = sum * x + c[i];
    return sum;
}

__device__ __noinline__ Setting changed(Setting s, float by) {
    s.id += 1;
    s.weight *= by;
    s.name[0] ^= 1;
    return s;
}

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

__device__ __noinline__ float twice(float x) { return 2.0f * x; }
__device__ __noinline__ float half(float x) { return 0.5f * x; }
typedef float (*Function)(float);
__device__ Function functions[2] = {twice, half};

extern "C" __global__ void calls(const float* x, float* out, int n, Setting given) {
    int i = threadIdx.x;
    float c[8];
    for (int k = 0; k < 8; k++) c[k] = x[(i + k) % n];
    c[i & 7] += scale;
    out[i] = horner(c, 8, x[i % n]);
    Setting s = changed(given, x[i % n]);
    out[n + i] = s.id + s.weight + s.name[0] + setting.id + setting.name[i % 3];
    out[2 * n + i] = fibonacci(i % 10);
    out[3 * n + i] = functions[i & 1](x[i % n]);
    cursor = table == nullptr ? nullptr : cursor;
}
