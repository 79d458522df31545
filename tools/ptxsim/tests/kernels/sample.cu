// Draws a token for each row of logits: of the `top` largest, the one whose logit plus Gumbel noise is
// largest. One block of 256 threads a row; top = 1 is the argmax.

// A counter's hash: noise depends on seed, row and token alone.
__device__ unsigned hash(unsigned x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// Order of unsigned numbers as of the floats they come from.
__device__ unsigned ordered(float x) {
    unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

extern "C" __global__ void __launch_bounds__(256)
    sample(const float* logits, int* tokens, float* confidence, int vocabulary, int top, float temperature,
           unsigned seed) {
    __shared__ unsigned histogram[256];
    __shared__ unsigned prefix, remaining;
    __shared__ float best[8];
    __shared__ int place[8];
    const float* row = logits + static_cast<size_t>(blockIdx.x) * vocabulary;
    if (threadIdx.x == 0) {
        prefix = 0;
        remaining = top;
    }
    // The top-th largest, eight bits at a time.
    for (int shift = 24; shift >= 0; shift -= 8) {
        histogram[threadIdx.x] = 0;
        __syncthreads();
        unsigned known = prefix;
        for (int i = threadIdx.x; i < vocabulary; i += 256) {
            unsigned key = ordered(row[i]);
            if (shift == 24 || key >> (shift + 8) == known >> (shift + 8)) atomicAdd(&histogram[key >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned left = remaining;
            int digit = 255;
            while (digit > 0 && histogram[digit] < left) left -= histogram[digit--];
            prefix = known | static_cast<unsigned>(digit) << shift;
            remaining = left;
        }
        __syncthreads();
    }
    const unsigned threshold = prefix;
    float value = __int_as_float(0xff800000), sum = 0.0f;
    int token = 0;
    for (int i = threadIdx.x; i < vocabulary; i += 256) {
        float logit = row[i];
        if (ordered(logit) < threshold) continue;
        float scaled = logit / temperature;
        sum += expf(scaled);
        float uniform = (hash(seed ^ hash(blockIdx.x * 0x9e3779b9u + i)) >> 8) * 0x1p-24f + 0x1p-25f;
        float noisy = scaled - logf(-logf(uniform));
        if (noisy > value) {
            value = noisy;
            token = i;
        }
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        float other = __shfl_down_sync(0xffffffff, value, distance);
        int its = __shfl_down_sync(0xffffffff, token, distance);
        sum += __shfl_down_sync(0xffffffff, sum, distance);
        if (other > value || (other == value && its < token)) {
            value = other;
            token = its;
        }
    }
    __shared__ float sums[8];
    if ((threadIdx.x & 31) == 0) {
        best[threadIdx.x >> 5] = value;
        place[threadIdx.x >> 5] = token;
        sums[threadIdx.x >> 5] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < 8; warp++) {
            sum += sums[warp];
            if (best[warp] > value || (best[warp] == value && place[warp] < token)) {
                value = best[warp];
                token = place[warp];
            }
        }
        tokens[blockIdx.x] = token;
        confidence[blockIdx.x] = expf(row[token] / temperature) / sum;
    }
}
