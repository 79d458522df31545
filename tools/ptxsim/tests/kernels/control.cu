// Control flow and memory spaces: switches, calls, recursion, local arrays, constants, divergence.

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

// An array that must stay in memory: its index is known only at run time.
extern "C" __global__ void sorted(const int* x, int* out) {
    int mine[16];
    for (int k = 0; k < 16; k++) mine[k] = x[threadIdx.x * 16 + k] + table[(k + threadIdx.x) & 15];
    for (int k = 1; k < 16; k++) {
        int v = mine[k], j = k;
        for (; j > 0 && mine[j - 1] > v; j--) mine[j] = mine[j - 1];
        mine[j] = v;
    }
    for (int k = 0; k < 16; k++) out[threadIdx.x * 16 + k] = mine[k];
}

extern "C" __global__ void diverge(const int* x, int* out, int n) {
    int t = threadIdx.x, v = x[t], steps = 0;
    if (v < 0) return;
    for (int outer = 0; outer < (v & 7); outer++) {
        if (outer == 5) break;
        for (int inner = 0; inner < t; inner++) {
            if ((inner ^ v) & 1) continue;
            steps += inner;
            if (steps > 1000) goto done;
        }
    }
done:
    while (v != 1 && steps < 5000) {
        v = v & 1 ? 3 * v + 1 : v / 2;
        steps++;
        if (v <= 0) break;
    }
    out[t] = steps;
    // A label and registers of its own in each copy of the text.
    for (int k = 0; k < 2; k++)
        asm volatile("{ .reg .pred p; .reg .b32 t;\n"
                     "  setp.ge.s32 p, %1, %2;\n"
                     "  @p bra OUT;\n"
                     "  add.s32 t, %1, 1;\n"
                     "  st.global.b32 [%0], t;\n"
                     "OUT: }" ::"l"(out + n + t), "r"(steps), "r"(n) : "memory");
}

// The compiler prefers comparisons to a table of branches, so this one is written out.
extern "C" __global__ void indexed(const unsigned* x, int* out) {
    int result;
    asm volatile("{ .reg .b32 case, v;\n"
                 "  targets: .branchtargets ZERO, ONE, TWO, ONE;\n"
                 "  mov.b32 v, 1;\n"
                 "  min.u32 case, %1, 3;\n"
                 "  brx.idx case, targets;\n"
                 "ZERO: mov.b32 v, 100; bra END;\n"
                 "ONE: add.s32 v, v, 200;\n"
                 "TWO: add.s32 v, v, 300;\n"
                 "END: mov.b32 %0, v; }"
                 : "=r"(result)
                 : "r"(x[threadIdx.x]));
    out[threadIdx.x] = result;
}
