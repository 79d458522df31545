// Counter-based noise, to the bit that of src/rng.rs: Philox4x32-10 (Salmon et al., SC 2011) and Gumbel
// noise from it. Every float operation is rounded by itself; none may be contracted.
#pragma once

// Key of all draws of one decode step: the seed, and step | stage << 16.
struct NoiseKey {
    unsigned long long seed;
    unsigned int step;
};

// What a draw is for (rng::Purpose).
#define PURPOSE_TOKEN 0
#define PURPOSE_CONFIDENCE 1

// Words of draws 4*block .. 4*block + 4 at `position`.
__device__ __forceinline__ uint4 philox(NoiseKey key, unsigned int purpose, unsigned int position,
                                        unsigned int block) {
    unsigned int c0 = block, c1 = position, c2 = key.step, c3 = purpose;
    unsigned int k0 = static_cast<unsigned int>(key.seed), k1 = static_cast<unsigned int>(key.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned int low0 = c0 * 0xD2511F53u, high0 = __umulhi(c0, 0xD2511F53u);
        const unsigned int low1 = c2 * 0xCD9E8D57u, high1 = __umulhi(c2, 0xCD9E8D57u);
        c0 = high1 ^ c1 ^ k0, c1 = low1;
        c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

// Natural logarithm of a positive normal number, to about 1 ulp: the operations of rng::ln.
__device__ __forceinline__ float ln(float x) {
    const unsigned int offset = __float_as_uint(x) - 0x3F3504F3u;  // of the square root of one half
    const float e = static_cast<float>(static_cast<int>(offset) >> 23);
    const float f = __fsub_rn(__uint_as_float((offset & 0x007FFFFFu) + 0x3F3504F3u), 1.0f);
    const float s = __fdiv_rn(f, __fadd_rn(2.0f, f));
    const float z = __fmul_rn(s, s), w = __fmul_rn(z, z);
    const float odd = __fmul_rn(z, __fadd_rn(0.6666666f, __fmul_rn(w, 0.28498787f)));
    const float even = __fmul_rn(w, __fadd_rn(0.40000972f, __fmul_rn(w, 0.24279079f)));
    const float half_square = __fmul_rn(__fmul_rn(0.5f, f), f);
    float y = __fmul_rn(s, __fadd_rn(half_square, __fadd_rn(even, odd)));
    y = __fadd_rn(y, __fmul_rn(e, 9.058001e-6f));
    y = __fadd_rn(__fsub_rn(y, half_square), f);
    return __fadd_rn(y, __fmul_rn(e, 0.6931381f));
}

// Standard Gumbel noise -ln(-ln u), u the midpoint of one of 2^23 equal parts of (0, 1).
__device__ __forceinline__ float gumbel(unsigned int word) {
    const float u = __fmul_rn(__fadd_rn(static_cast<float>(word >> 9), 0.5f), 1.0f / 8388608.0f);
    return -ln(-ln(u));
}
