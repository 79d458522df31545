// Control flow without calls: divergent loops, jumps, tables of branches, local arrays, constants.

__constant__ int table[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};

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
