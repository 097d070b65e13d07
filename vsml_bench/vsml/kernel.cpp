// One sweep of a dense VSML layer, all micro-ticks fused: every sub-RNN's state is read once and
// written once per example, and its gates never leave the registers. Forward only.
//
// Shapes, row-major, N = 16: from_inputs [E, A, 4N] and from_outputs [E, B, 4N] are the messages'
// shares of the gates (i, g, f, o), bias included; weight [N, 4N] maps the own hidden state;
// hidden, cell and their outputs are [E, A, B, N]; sum_a [E, B, N] and sum_b [E, A, N] receive the
// new hidden state summed over inputs and over outputs.

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int N = 16;
typedef float Vector __attribute__((vector_size(4 * N)));
typedef int32_t Bits __attribute__((vector_size(4 * N)));

inline Vector load(const float* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof v); }

constexpr float BOUND = 28.0f;

// Both keep NaN; on AVX-512 they are single instructions and a Newton step.
#ifdef __AVX512F__
inline Vector clamp(Vector x) {
    // the second operand is returned where either is NaN
    const __m512 above = _mm512_max_ps(_mm512_set1_ps(-BOUND), (__m512)x);
    return (Vector)_mm512_min_ps(_mm512_set1_ps(BOUND), above);
}

inline Vector reciprocal(Vector x) {
    const Vector guess = (Vector)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
}
#else
inline Vector clamp(Vector x) {
    x = x < -BOUND ? (Vector{} - BOUND) : x;
    return x > BOUND ? (Vector{} + BOUND) : x;
}

inline Vector reciprocal(Vector x) { return 1.0f / x; }
#endif

// exp(-x) for |x| <= 28 and its value there beyond: 1 / (1 + exp(-28)) is 1 in float32, and
// products of three such terms cannot overflow. 2^r on |r| <= 1/2 by its Taylor polynomial of
// degree 7, relative error 2e-9.
inline Vector exp_minus(Vector x) {
    x = clamp(x);
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    Vector y = x * -1.44269504088896341f;
    Vector shifted = y + round;
    Vector r = y - (shifted - round);
    Vector p = r * 1.52527338e-5f + 1.54035304e-4f;
    p = p * r + 1.33335581e-3f;
    p = p * r + 9.61812911e-3f;
    p = p * r + 5.55041087e-2f;
    p = p * r + 2.40226507e-1f;
    p = p * r + 6.93147181e-1f;
    p = p * r + 1.0f;
    return (Vector)((Bits)p + ((Bits)shifted << 23));
}

template <int K>
inline void block(int ticks, const float* from_input, const float* from_outputs,
                  const float* weight, const float* hidden, const float* cell, float* new_hidden,
                  float* new_cell, float* sum_a, Vector& sum_b) {
    alignas(64) float h[K][N];
    Vector c[K];
    for (int k = 0; k < K; ++k) {
        std::memcpy(h[k], hidden + k * N, sizeof h[k]);
        c[k] = load(cell + k * N);
    }
    for (int tick = 0; tick < ticks; ++tick) {
        Vector gates[K][4];
        for (int k = 0; k < K; ++k)
            for (int g = 0; g < 4; ++g)
                gates[k][g] = load(from_input + g * N) + load(from_outputs + (k * 4 + g) * N);
        for (int n = 0; n < N; ++n) {
            const Vector w0 = load(weight + (n * 4 + 0) * N), w1 = load(weight + (n * 4 + 1) * N);
            const Vector w2 = load(weight + (n * 4 + 2) * N), w3 = load(weight + (n * 4 + 3) * N);
            for (int k = 0; k < K; ++k) {
                gates[k][0] += w0 * h[k][n];
                gates[k][1] += w1 * h[k][n];
                gates[k][2] += w2 * h[k][n];
                gates[k][3] += w3 * h[k][n];
            }
        }
        for (int k = 0; k < K; ++k) {
            // sigmoid(x) = 1 / (1 + e^-x) and tanh(x) = (1 - e^-2x) / (1 + e^-2x), each line of
            // the LSTM brought over one denominator
            const Vector input = 1.0f + exp_minus(gates[k][0] - 5.0f);
            const Vector forget = 1.0f + exp_minus(gates[k][2] + 5.0f);
            const Vector update = exp_minus(2.0f * gates[k][1]), both = input * (1.0f + update);
            c[k] = (c[k] * both + (1.0f - update) * forget) * reciprocal(forget * both);
            const Vector output = 1.0f + exp_minus(gates[k][3]);
            const Vector squashed = exp_minus(2.0f * c[k]);
            store(h[k], (1.0f - squashed) * reciprocal(output * (1.0f + squashed)));
        }
    }
    for (int k = 0; k < K; ++k) {
        const Vector out = load(h[k]);
        store(new_hidden + k * N, out);
        store(new_cell + k * N, c[k]);
        store(sum_a + k * N, load(sum_a + k * N) + out);
        sum_b += out;
    }
}

}  // namespace

extern "C" void vsml_sweep(int64_t lifetimes, int64_t inputs, int64_t outputs, int64_t ticks,
                           const float* from_inputs, const float* from_outputs,
                           const float* weight, const float* hidden, const float* cell,
                           float* new_hidden, float* new_cell, float* sum_a, float* sum_b) {
    for (int64_t e = 0; e < lifetimes; ++e) {
        float* totals = sum_a + e * outputs * N;
        std::memset(totals, 0, sizeof(float) * outputs * N);
        const float* above = from_outputs + e * outputs * 4 * N;
        for (int64_t a = 0; a < inputs; ++a) {
            const int64_t row = e * inputs + a;
            const float* below = from_inputs + row * 4 * N;
            Vector total{};
            int64_t b = 0;
            const auto run = [&](auto width) {
                constexpr int K = decltype(width)::value;
                const int64_t at = (row * outputs + b) * N;
                block<K>(static_cast<int>(ticks), below, above + b * 4 * N, weight, hidden + at,
                         cell + at, new_hidden + at, new_cell + at, totals + b * N, total);
                b += K;
            };
            while (outputs - b >= 5) run(std::integral_constant<int, 5>{});
            switch (outputs - b) {
                case 4: run(std::integral_constant<int, 4>{}); break;
                case 3: run(std::integral_constant<int, 3>{}); break;
                case 2: run(std::integral_constant<int, 2>{}); break;
                case 1: run(std::integral_constant<int, 1>{}); break;
            }
            store(sum_b + row * N, total);
        }
    }
}
