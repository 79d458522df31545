// Integer, bit and byte-wise instructions, and votes and shuffles of a warp.

extern "C" __global__ void bits(const unsigned* x, const unsigned* y, unsigned* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned a = x[i], b = y[i];
    int s = static_cast<int>(a);
    unsigned r[16];
    r[0] = __popc(a) + __clz(b) + __ffs(a) + __brev(b);
    r[1] = __byte_perm(a, b, 0x5410) ^ __byte_perm(a, b, b);
    r[2] = __funnelshift_l(a, b, 7) + __funnelshift_r(a, b, b & 31) + __funnelshift_lc(a, b, b);
    r[3] = __umulhi(a, b) + __mulhi(s, static_cast<int>(b)) + __umul24(a, b) + __mul24(s, 3);
    r[4] = a / (b | 1) + a % (b | 1);
    r[5] = s / static_cast<int>(b | 1) + s % 7;
    r[6] = min(a, b) + max(s, 5) + abs(s) + __usad(a, b, 3u) + __sad(s, 4, 5u);
    r[7] = (a & b) ^ (a | ~b);
    r[8] = s >> (b & 31);
    r[9] = a << (b & 31) | a >> 3;
    r[10] = __dp4a(a, b, 7u) + __dp4a(s, static_cast<int>(b), -7) + __dp2a_lo(s, s, 1);
    r[11] = __vadd4(a, b) + __vabsdiffu4(a, b) + __vmaxs2(a, b) + __vcmpgtu4(a, b) + __vavgu4(a, b);
    r[12] = __uhadd(a, b) + __urhadd(a, b) + __hadd(s, 9);
    asm("bfe.u32 %0, %1, 5, 9;" : "=r"(r[13]) : "r"(a));
    asm("bfi.b32 %0, %1, %2, 8, 4;" : "=r"(r[14]) : "r"(a), "r"(b));
    asm("{ .reg .b32 t; lop3.b32 t, %1, %2, %3, 0xE8; shf.l.wrap.b32 %0, t, t, 3; }" : "=r"(r[15]) : "r"(a), "r"(b), "r"(i));
    for (int k = 0; k < 16; k++) out[k * n + i] = r[k];
}

extern "C" __global__ void wide(const unsigned long long* x, const long long* y, unsigned long long* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long a = x[i];
    long long b = y[i];
    out[0 * n + i] = a * b + __umul64hi(a, b) + __mul64hi(b, 3);
    out[1 * n + i] = a / (b | 1) + a % 10;
    out[2 * n + i] = b / ((b >> 3) | 1) - (b >> (a & 63)) + (a << (b & 63));
    out[3 * n + i] = __popcll(a) + __clzll(b) + __ffsll(a) + __brevll(a);
    out[4 * n + i] = static_cast<unsigned>(a) * static_cast<unsigned long long>(static_cast<unsigned>(b)) + llabs(b);
    unsigned low, high;
    asm("{ .reg .b32 al, ah, bl, bh;\n"
        "  mov.b64 {al, ah}, %2; mov.b64 {bl, bh}, %3;\n"
        "  add.cc.u32 %0, al, bl; addc.u32 %1, ah, bh; }"
        : "=r"(low), "=r"(high)
        : "l"(a), "l"(b));
    out[5 * n + i] = static_cast<unsigned long long>(high) << 32 | low;
    short t = static_cast<short>(b);
    unsigned char c = static_cast<unsigned char>(a);
    out[6 * n + i] = static_cast<short>(t * 3) + static_cast<signed char>(c) + static_cast<unsigned short>(t >> 2);
    out[7 * n + i] = min(a, 77ull) + max(b, -5ll) + (a > 5 && b < 0 ? 1 : 2);
}

extern "C" __global__ void warp(const int* x, int* out) {
    int t = threadIdx.x, v = x[t];
    int* mine = out + t * 12;
    mine[0] = __shfl_sync(0xffffffff, v, (t + 5) & 31);
    mine[1] = __shfl_up_sync(0xffffffff, v, 3, 16);
    mine[2] = __shfl_down_sync(0xffffffff, v, 1, 8);
    mine[3] = __shfl_xor_sync(0xffffffff, v, 9);
    mine[4] = __ballot_sync(0xffffffff, v > 3);
    mine[5] = __any_sync(0xffffffff, v > 30) + 2 * __all_sync(0xffffffff, v >= 0);
    mine[6] = __activemask();
    int same;
    mine[7] = __match_any_sync(0xffffffff, v & 3);
    mine[8] = __match_all_sync(0xffffffff, v & 64, &same) + same;
    mine[9] = __reduce_add_sync(0xffffffff, v) + __reduce_max_sync(0xffffffff, v);
    mine[10] = __reduce_xor_sync(0xffffffff, static_cast<unsigned>(v));
    unsigned less, lane;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(less));
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    if (t & 1) __syncwarp(0xaaaaaaaa);
    mine[11] = less + lane + __syncthreads_count(v > 2) + __syncthreads_or(v == 1);
}
