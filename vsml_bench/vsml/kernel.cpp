// One sweep of a dense VSML layer, all micro-ticks fused, and its gradient: every sub-RNN's state is
// read once and written once per example, and its gates never leave the registers or the first-level
// cache. The gradient computes the gates again instead of keeping them.
//
// Shapes, row-major, N = 16: from_inputs [E, A, 4N] and from_outputs [E, B, 4N] are the messages'
// shares of the gates (i, g, f, o), bias included; weight [N, 4N] maps the own hidden state;
// hidden, cell and their outputs are [E, A, B, N]; sum_a [E, B, N] and sum_b [E, A, N] receive the
// new hidden state summed over inputs and over outputs.

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX__
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int N = 16;
constexpr int GATES = 4 * N;
constexpr int MAX_TICKS = 8;  // kernel.py asks for no more of a gradient
constexpr int BLOCK = 5;      // sub-RNNs side by side, so that none waits for its own results

// N floats as the machine's own vectors: GCC passes wider ones through memory.
#if defined(__AVX512F__)
constexpr int LANES = 16;
constexpr int GATES_AT_ONCE = 4;  // as many as fit the registers with BLOCK sub-RNNs
#elif defined(__AVX__)
constexpr int LANES = 8;
constexpr int GATES_AT_ONCE = 1;
#else
constexpr int LANES = 4;
constexpr int GATES_AT_ONCE = 1;
#endif
typedef float Native __attribute__((vector_size(4 * LANES)));
typedef int32_t NativeBits __attribute__((vector_size(4 * LANES)));
constexpr int PARTS = N / LANES;

struct Vector {
    Native part[PARTS];
};

template <class F>
INLINE Vector map(F f) {
    Vector result;
    for (int p = 0; p < PARTS; ++p) result.part[p] = f(p);
    return result;
}

INLINE Vector all(float x) {
    return map([=](int) { return Native{} + x; });
}
INLINE Vector operator+(const Vector& x, const Vector& y) {
    return map([&](int p) { return x.part[p] + y.part[p]; });
}
INLINE Vector operator-(const Vector& x, const Vector& y) {
    return map([&](int p) { return x.part[p] - y.part[p]; });
}
INLINE Vector operator*(const Vector& x, const Vector& y) {
    return map([&](int p) { return x.part[p] * y.part[p]; });
}
INLINE Vector operator+(const Vector& x, float y) { return x + all(y); }
INLINE Vector operator+(float x, const Vector& y) { return all(x) + y; }
INLINE Vector operator-(const Vector& x, float y) { return x - all(y); }
INLINE Vector operator-(float x, const Vector& y) { return all(x) - y; }
INLINE Vector operator*(const Vector& x, float y) { return x * all(y); }
INLINE Vector operator*(float x, const Vector& y) { return all(x) * y; }
INLINE void operator+=(Vector& x, const Vector& y) { x = x + y; }

INLINE Vector load(const float* from) {
    return map([=](int p) {
        Native part;
        std::memcpy(&part, from + p * LANES, sizeof part);
        return part;
    });
}

INLINE void store(float* to, const Vector& x) {
    for (int p = 0; p < PARTS; ++p) std::memcpy(to + p * LANES, &x.part[p], sizeof(Native));
}

constexpr float BOUND = 28.0f;

// Keeps NaN: the second operand of min and max is returned where either is NaN.
INLINE Vector clamp(const Vector& x) {
    return map([&](int p) {
        const Native low = Native{} - BOUND, high = Native{} + BOUND;
#if defined(__AVX512F__)
        return (Native)_mm512_min_ps((__m512)high, _mm512_max_ps((__m512)low, (__m512)x.part[p]));
#elif defined(__AVX__)
        return (Native)_mm256_min_ps((__m256)high, _mm256_max_ps((__m256)low, (__m256)x.part[p]));
#else
        const Native above = x.part[p] < low ? low : x.part[p];
        return above > high ? high : above;
#endif
    });
}

INLINE Vector reciprocal(const Vector& x) {
    return map([&](int p) {
#ifdef __AVX512F__
        const Native guess = (Native)_mm512_rcp14_ps((__m512)x.part[p]);
        return guess * (2.0f - x.part[p] * guess);
#else
        return 1.0f / x.part[p];
#endif
    });
}

// exp(-x) for |x| <= 28 and its value there beyond: 1 / (1 + exp(-28)) is 1 in float32, and
// products of three such terms cannot overflow. 2^r on |r| <= 1/2 by its Taylor polynomial of
// degree 7, relative error 2e-9.
INLINE Vector exp_minus(const Vector& unbounded) {
    const Vector x = clamp(unbounded);
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
    return map([&](int i) {
        return (Native)((NativeBits)p.part[i] + ((NativeBits)shifted.part[i] << 23));
    });
}

// gates[k] = from_input + from_outputs[k] + h[k] W, for K sub-RNNs at one input.
template <int K>
INLINE void add_up_gates(const float* from_input, const float* from_outputs, const float* weight,
                         const float (*h)[N], float (*gates)[GATES]) {
    for (int first = 0; first < 4; first += GATES_AT_ONCE) {
        Vector sums[GATES_AT_ONCE][K];
        for (int g = 0; g < GATES_AT_ONCE; ++g)
            for (int k = 0; k < K; ++k)
                sums[g][k] = load(from_input + (first + g) * N) +
                             load(from_outputs + k * GATES + (first + g) * N);
        for (int n = 0; n < N; ++n)
            for (int g = 0; g < GATES_AT_ONCE; ++g) {
                const Vector w = load(weight + n * GATES + (first + g) * N);
                for (int k = 0; k < K; ++k) sums[g][k] += w * h[k][n];
            }
        for (int g = 0; g < GATES_AT_ONCE; ++g)
            for (int k = 0; k < K; ++k) store(gates[k] + (first + g) * N, sums[g][k]);
    }
}

// All ticks of K sub-RNNs at one input.
template <int K>
INLINE void sweep_block(int ticks, const float* from_input, const float* from_outputs,
                        const float* weight, const float* hidden, const float* cell,
                        float* new_hidden, float* new_cell, float* sum_a, Vector& sum_b) {
    alignas(64) float h[K][N], c[K][N], gates[K][GATES];
    std::memcpy(h, hidden, sizeof h);
    std::memcpy(c, cell, sizeof c);
    for (int tick = 0; tick < ticks; ++tick) {
        add_up_gates<K>(from_input, from_outputs, weight, h, gates);
        for (int k = 0; k < K; ++k) {
            // sigmoid(x) = 1 / (1 + e^-x) and tanh(x) = (1 - e^-2x) / (1 + e^-2x), each line of
            // the LSTM brought over one denominator
            const Vector input = 1.0f + exp_minus(load(gates[k]) - 5.0f);
            const Vector update = exp_minus(2.0f * load(gates[k] + N));
            const Vector forget = 1.0f + exp_minus(load(gates[k] + 2 * N) + 5.0f);
            const Vector output = 1.0f + exp_minus(load(gates[k] + 3 * N));
            const Vector both = input * (1.0f + update);
            const Vector next =
                (load(c[k]) * both + (1.0f - update) * forget) * reciprocal(forget * both);
            const Vector squashed = exp_minus(2.0f * next);
            store(c[k], next);
            store(h[k], (1.0f - squashed) * reciprocal(output * (1.0f + squashed)));
        }
    }
    std::memcpy(new_hidden, h, sizeof h);
    std::memcpy(new_cell, c, sizeof c);
    for (int k = 0; k < K; ++k) {
        const Vector out = load(h[k]);
        store(sum_a + k * N, load(sum_a + k * N) + out);
        sum_b += out;
    }
}

// What one tick of K sub-RNNs leaves for its gradient: sigmoids and tanhs, not what is inside them.
template <int K>
struct Tick {
    alignas(64) float hidden[K][N], cell[K][N];  // before the tick
    alignas(64) float input[K][N], update[K][N], forget[K][N], output[K][N], squashed[K][N];
    alignas(64) float gradient[K][GATES];  // of the gates
};

// One tick forwards, as in `sweep_block`, keeping every factor of the gradient.
template <int K>
INLINE void tick_forwards(const float* from_input, const float* from_outputs, const float* weight,
                          float (*h)[N], float (*c)[N], Tick<K>& kept) {
    std::memcpy(kept.hidden, h, sizeof kept.hidden);
    std::memcpy(kept.cell, c, sizeof kept.cell);
    float(*gates)[GATES] = kept.gradient;  // not needed before the way back
    add_up_gates<K>(from_input, from_outputs, weight, h, gates);
    for (int k = 0; k < K; ++k) {
        const Vector input = 1.0f + exp_minus(load(gates[k]) - 5.0f);
        const Vector e_update = exp_minus(2.0f * load(gates[k] + N)), update = 1.0f + e_update;
        const Vector forget = 1.0f + exp_minus(load(gates[k] + 2 * N) + 5.0f);
        const Vector output = 1.0f + exp_minus(load(gates[k] + 3 * N));
        const Vector both = input * update, inverse = reciprocal(both * forget);
        const Vector i = update * forget * inverse, f = both * inverse;
        const Vector g = (1.0f - e_update) * input * forget * inverse;
        const Vector next = f * load(c[k]) + i * g;
        const Vector e_squashed = exp_minus(2.0f * next), squashed = 1.0f + e_squashed;
        const Vector inverse_out = reciprocal(output * squashed);
        const Vector o = squashed * inverse_out, tanh_c = (1.0f - e_squashed) * output * inverse_out;
        store(kept.input[k], i);
        store(kept.update[k], g);
        store(kept.forget[k], f);
        store(kept.output[k], o);
        store(kept.squashed[k], tanh_c);
        store(c[k], next);
        store(h[k], o * tanh_c);
    }
}

// One tick backwards: from dL/dh', dL/dc' to dL/dh, dL/dc and dL/dgates, which stays in `kept`.
template <int K>
INLINE void tick_backwards(const float* weight_transposed, Tick<K>& kept, float (*dh)[N],
                           float (*dc)[N]) {
    for (int k = 0; k < K; ++k) {
        const Vector i = load(kept.input[k]), g = load(kept.update[k]), f = load(kept.forget[k]);
        const Vector o = load(kept.output[k]), tanh_c = load(kept.squashed[k]);
        const Vector d_hidden = load(dh[k]);
        const Vector d_cell = load(dc[k]) + d_hidden * o * (1.0f - tanh_c * tanh_c);
        store(kept.gradient[k], d_cell * g * i * (1.0f - i));
        store(kept.gradient[k] + N, d_cell * i * (1.0f - g * g));
        store(kept.gradient[k] + 2 * N, d_cell * load(kept.cell[k]) * f * (1.0f - f));
        store(kept.gradient[k] + 3 * N, d_hidden * tanh_c * o * (1.0f - o));
        store(dc[k], d_cell * f);
    }
    Vector sums[K] = {};
    for (int j = 0; j < GATES; ++j) {
        const Vector w = load(weight_transposed + j * N);
        for (int k = 0; k < K; ++k) sums[k] += w * kept.gradient[k][j];
    }
    for (int k = 0; k < K; ++k) store(dh[k], sums[k]);
}

// dL/dW += sum of h^T dL/dgates, one row of W at a time so that it stays in registers.
template <int K>
INLINE void add_outer_products(const Tick<K>* kept, int ticks, float* d_weight) {
    for (int n = 0; n < N; ++n) {
        Vector row[4];
        for (int g = 0; g < 4; ++g) row[g] = load(d_weight + n * GATES + g * N);
        for (int tick = 0; tick < ticks; ++tick)
            for (int k = 0; k < K; ++k)
                for (int g = 0; g < 4; ++g)
                    row[g] += load(kept[tick].gradient[k] + g * N) * kept[tick].hidden[k][n];
        for (int g = 0; g < 4; ++g) store(d_weight + n * GATES + g * N, row[g]);
    }
}

// The gradient of `sweep_block`. d_hidden and d_cell come in as dL/d of what the sweep returned.
template <int K>
INLINE void backward_block(int ticks, const float* from_input, const float* from_outputs,
                           const float* weight, const float* weight_transposed,
                           const float* hidden, const float* cell, float (*dh)[N], float (*dc)[N],
                           Vector into_input[4], float* into_outputs, float* d_weight) {
    Tick<K> kept[MAX_TICKS];
    alignas(64) float h[K][N], c[K][N];
    std::memcpy(h, hidden, sizeof h);
    std::memcpy(c, cell, sizeof c);
    for (int tick = 0; tick < ticks; ++tick)
        tick_forwards<K>(from_input, from_outputs, weight, h, c, kept[tick]);
    for (int tick = ticks - 1; tick >= 0; --tick) {
        tick_backwards<K>(weight_transposed, kept[tick], dh, dc);
        for (int k = 0; k < K; ++k)
            for (int g = 0; g < 4; ++g) {
                const Vector gradient = load(kept[tick].gradient[k] + g * N);
                float* column = into_outputs + k * GATES + g * N;
                into_input[g] += gradient;
                store(column, load(column) + gradient);
            }
    }
    add_outer_products<K>(kept, ticks, d_weight);
}

// Calls run(std::integral_constant<int, K>, b) for blocks of outputs.
template <class Run>
INLINE void over_outputs(int64_t outputs, Run run) {
    int64_t b = 0;
    for (; b + BLOCK <= outputs; b += BLOCK) run(std::integral_constant<int, BLOCK>{}, b);
    switch (outputs - b) {
        case 4: run(std::integral_constant<int, 4>{}, b); break;
        case 3: run(std::integral_constant<int, 3>{}, b); break;
        case 2: run(std::integral_constant<int, 2>{}, b); break;
        case 1: run(std::integral_constant<int, 1>{}, b); break;
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
        const float* above = from_outputs + e * outputs * GATES;
        for (int64_t a = 0; a < inputs; ++a) {
            const int64_t row = e * inputs + a;
            Vector total = all(0.0f);
            over_outputs(outputs, [&](auto width, int64_t b) {
                const int64_t at = (row * outputs + b) * N;
                sweep_block<decltype(width)::value>(
                    static_cast<int>(ticks), from_inputs + row * GATES, above + b * GATES, weight,
                    hidden + at, cell + at, new_hidden + at, new_cell + at, totals + b * N, total);
            });
            store(sum_b + row * N, total);
        }
    }
}

// The gradient of vsml_sweep. hidden and cell are what the sweep started from; grad_hidden and
// grad_cell [E, A, B, N], grad_sum_a [E, B, N] and grad_sum_b [E, A, N] are dL/d of what it
// returned. Fills d_from_inputs [E, A, 4N], d_hidden and d_cell [E, A, B, N], and adds to
// d_from_outputs [E, B, 4N] and d_weight [N, 4N]. weight_transposed is [4N, N].
extern "C" void vsml_sweep_backward(
    int64_t lifetimes, int64_t inputs, int64_t outputs, int64_t ticks, const float* from_inputs,
    const float* from_outputs, const float* weight, const float* weight_transposed,
    const float* hidden, const float* cell, const float* grad_hidden, const float* grad_cell,
    const float* grad_sum_a, const float* grad_sum_b, float* d_from_inputs, float* d_from_outputs,
    float* d_weight, float* d_hidden, float* d_cell) {
    for (int64_t e = 0; e < lifetimes; ++e)
        for (int64_t a = 0; a < inputs; ++a) {
            const int64_t row = e * inputs + a;
            const Vector from_below = load(grad_sum_b + row * N);
            Vector into_input[4] = {};
            over_outputs(outputs, [&](auto width, int64_t b) {
                constexpr int K = decltype(width)::value;
                const int64_t at = (row * outputs + b) * N, column = e * outputs + b;
                alignas(64) float dh[K][N], dc[K][N];
                for (int k = 0; k < K; ++k)
                    store(dh[k], load(grad_hidden + at + k * N) +
                                     load(grad_sum_a + (column + k) * N) + from_below);
                std::memcpy(dc, grad_cell + at, sizeof dc);
                backward_block<K>(static_cast<int>(ticks), from_inputs + row * GATES,
                                  from_outputs + column * GATES, weight, weight_transposed,
                                  hidden + at, cell + at, dh, dc, into_input,
                                  d_from_outputs + column * GATES, d_weight);
                std::memcpy(d_hidden + at, dh, sizeof dh);
                std::memcpy(d_cell + at, dc, sizeof dc);
            });
            for (int g = 0; g < 4; ++g) store(d_from_inputs + row * GATES + g * N, into_input[g]);
        }
}
