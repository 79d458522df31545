// The mathematics library: its range reductions bring tables, local arrays and f64.

extern "C" __global__ void singles(const float* x, const float* y, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a = x[i], b = y[i], s, c;
    sincosf(a, &s, &c);
    out[i + 0 * n] = s;
    out[i + 1 * n] = c;
    out[i + 2 * n] = powf(fabsf(a), b);
    out[i + 3 * n] = expf(a);
    out[i + 4 * n] = logf(fabsf(b) + 1.0f);
    out[i + 5 * n] = tanhf(a);
    out[i + 6 * n] = erff(a);
    out[i + 7 * n] = a / b;
    out[i + 8 * n] = sqrtf(fabsf(a));
    out[i + 9 * n] = rsqrtf(fabsf(b));
    out[i + 10 * n] = floorf(a) + ceilf(b) + truncf(a) + rintf(b);
    out[i + 11 * n] = fminf(a, b) + fmaxf(a, 0.0f) + fmodf(a, b);
    out[i + 12 * n] = __expf(a) + __logf(fabsf(b)) + __sinf(a) + __cosf(b) + __fdividef(a, b);
    out[i + 13 * n] = copysignf(a, b) + (isnan(a) ? 1.0f : 0.0f) + (signbit(b) ? 1.0f : 0.0f);
    out[i + 14 * n] = __fadd_rz(a, b) + __fmul_ru(a, b) + __fmaf_rd(a, b, a) + __frcp_rn(b) + __saturatef(a);
    out[i + 15 * n] = ldexpf(a, 3) + scalbnf(b, -2) + exp2f(a) + log2f(fabsf(a)) + cbrtf(b);
}

extern "C" __global__ void doubles(const double* x, const double* y, double* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double a = x[i], b = y[i];
    out[i + 0 * n] = a / b;
    out[i + 1 * n] = sqrt(fabs(a));
    out[i + 2 * n] = exp(a);
    out[i + 3 * n] = log(fabs(b) + 1.0);
    out[i + 4 * n] = sin(a) + cos(b);
    out[i + 5 * n] = fma(a, b, a - b);
    out[i + 6 * n] = fmin(a, b) + fmax(a, 0.0) + floor(a) + trunc(b);
    out[i + 7 * n] = static_cast<double>(static_cast<long long>(a)) + static_cast<float>(b);
    out[i + 8 * n] = static_cast<double>(static_cast<unsigned>(fabs(b))) + __double2int_rn(a);
    out[i + 9 * n] = a < b ? a : (a == b ? 1.0 : b);
}
