// The LSTM of a VSML sub-RNN on vectors of floats, a few sub-RNNs at a time, and its gradient.
//
// One micro-tick, with x the messages' shares of the gates i, g, f, o and W [N, 4N]:
//
//     i, g, f, o = x + h W
//     c' = sigmoid(f + 5) c + sigmoid(i - 5) tanh(g)
//     h' = sigmoid(o) tanh(c')
//
// sigmoid(z) = 1 / (1 + 2^y) and tanh(z / 2) = (1 - 2^y) / (1 + 2^y) with y = -z log2(e). So that
// the products below yield y at once, shares and weights are scaled beforehand (`to_exponents`).

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX__
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
// Before a loop over vectors that are to stay in registers.
#define UNROLLED _Pragma("GCC unroll 16")

constexpr int N = 16;
constexpr int GATES = 4 * N;
constexpr int MAX_TICKS = 8;  // native.py asks for no more of a gradient
constexpr int BLOCK = 5;      // sub-RNNs side by side, so that none waits for its own results
constexpr float LOG2E = 1.44269504088896341f;
constexpr float GATE_OFFSET = 5.0f;  // of the forget gate; its negative is the input gate's

// The machine's own vectors: GCC passes wider ones through memory. COLUMNS is how many vectors of
// gates are summed up at a time: as many as fit the registers with BLOCK sub-RNNs.
#if defined(__AVX512F__)
constexpr int LANES = 16, COLUMNS = 4;
#elif defined(__AVX__)
constexpr int LANES = 8, COLUMNS = 2;
#else
constexpr int LANES = 4, COLUMNS = 2;
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));

INLINE Vector load(const float* from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
INLINE void store(float* to, const Vector& x) { std::memcpy(to, &x, sizeof x); }
INLINE void add(float* to, const Vector& x) { store(to, load(to) + x); }
INLINE Vector all(float x) { return x - Vector{}; }  // x + 0 would turn -0 into 0

template <int SIZE>
INLINE void copy(const float* from, float* to) {
    for (int i = 0; i < SIZE; i += LANES) store(to + i, load(from + i));
}

// sum += x w. In assembly, for GCC keeps fewer sums in registers than there is room for.
INLINE void add_product(Vector& sum, const Vector& x, const Vector& w) {
#if defined(__FMA__) && !defined(__AVX512F__)
    asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
#else
    sum += x * w;
#endif
}
INLINE Vector broadcast(const float& x) {
#if defined(__FMA__) && !defined(__AVX512F__)
    Vector result;
    asm volatile("vbroadcastss %1, %0" : "=x"(result) : "m"(x));
    return result;
#else
    return all(x);
#endif
}

// 1 / (1 + 2^-40) is 1 in float32, and products of three such terms cannot overflow. Keeps NaN: the
// second operand of min and max is returned where either is NaN.
INLINE Vector bounded(const Vector& x) {
    const Vector low = all(-40.0f), high = all(40.0f);
#if defined(__AVX512F__)
    return (Vector)_mm512_min_ps((__m512)high, _mm512_max_ps((__m512)low, (__m512)x));
#elif defined(__AVX__)
    return (Vector)_mm256_min_ps((__m256)high, _mm256_max_ps((__m256)low, (__m256)x));
#else
    const Vector above = x < low ? low : x;
    return above > high ? high : above;
#endif
}

INLINE Vector reciprocal(const Vector& x) {
#ifdef __AVX512F__
    const Vector guess = (Vector)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

INLINE Vector quotient(const Vector& x, const Vector& y) {
#ifdef __AVX512F__
    return x * reciprocal(y);
#else
    return x / y;
#endif
}

// Turns V vectors of y into 2^y, with y bounded by 40: 2^y = 2^n 2^r with n the nearest integer, and
// 2^r on |r| <= 1/2 by the polynomial of degree 5 of the least relative error, 7.5e-8. All vectors
// take each step together, for one alone would wait for its last result at each.
template <int V>
INLINE void raise_side_by_side(float* at) {
    Vector whole[V], r[V], p[V];  // n, and without AVX-512 n + 1.5 * 2^23
#define EACH UNROLLED for (int v = 0; v < V; ++v)
    EACH r[v] = bounded(load(at + v * LANES));
#ifdef __AVX512F__
    EACH whole[v] = (Vector)_mm512_roundscale_ps((__m512)r[v], _MM_FROUND_TO_NEAREST_INT);
    EACH r[v] = r[v] - whole[v];
#else
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds, and leaves n in the lowest bits
    EACH whole[v] = r[v] + round;
    EACH store(at + v * LANES, whole[v]);
    EACH r[v] = r[v] - (whole[v] - round);
#endif
    EACH p[v] = r[v] * 1.32764720e-3f + 9.67554e-3f;
    EACH p[v] = p[v] * r[v] + 5.550713e-2f;
    EACH p[v] = p[v] * r[v] + 2.402212e-1f;
    EACH p[v] = p[v] * r[v] + 6.9314697e-1f;
    EACH p[v] = p[v] * r[v] + 1.0f;
#ifdef __AVX512F__
    EACH store(at + v * LANES, (Vector)_mm512_scalef_ps((__m512)p[v], (__m512)whole[v]));
#else
    EACH {
        const Bits exponent = (Bits)load(at + v * LANES) << 23;
        store(at + v * LANES, (Vector)((Bits)p[v] + exponent));
    }
#endif
#undef EACH
}

// SIZE numbers y, a multiple of LANES, into 2^y.
template <int SIZE>
INLINE void raise(float* at) {
    constexpr int VECTORS = SIZE / LANES, TOGETHER = 4, REST = VECTORS % TOGETHER;
    int v = 0;
    for (; v + TOGETHER <= VECTORS; v += TOGETHER) raise_side_by_side<TOGETHER>(at + v * LANES);
    if constexpr (REST > 0) raise_side_by_side<REST>(at + v * LANES);
}

// Scales shares of gates [4N] so that they add up to exponents y. offset: adds the gates' offsets.
INLINE void to_exponents(const float* gates, float* exponents, bool offset) {
    constexpr float FACTORS[4] = {-LOG2E, -2 * LOG2E, -LOG2E, -LOG2E};
    constexpr float OFFSETS[4] = {GATE_OFFSET * LOG2E, 0, -GATE_OFFSET * LOG2E, 0};
    for (int at = 0; at < GATES; at += LANES) {
        const float shift = offset ? OFFSETS[at / N] : 0.0f;
        store(exponents + at, load(gates + at) * FACTORS[at / N] + shift);
    }
}

// W [N, 4N] in exponents.
struct Weight {
    alignas(64) float rows[N][GATES];
    explicit Weight(const float* weight) {
        for (int n = 0; n < N; ++n) to_exponents(weight + n * GATES, rows[n], false);
    }
};

// The states of K sub-RNNs at one input and neighbouring outputs.
template <int K>
struct States {
    alignas(64) float hidden[K][N], cell[K][N];
    INLINE void read(const float* from_hidden, const float* from_cell) {
        copy<K * N>(from_hidden, hidden[0]);
        copy<K * N>(from_cell, cell[0]);
    }
    INLINE void write(float* to_hidden, float* to_cell) const {
        copy<K * N>(hidden[0], to_hidden);
        copy<K * N>(cell[0], to_cell);
    }
};

// y[k] = below + above[k] + h[k] W.
template <int K>
INLINE void add_up_exponents(const float* below, const float* above, const Weight& weight,
                             const float (*h)[N], float (*y)[GATES]) {
    for (int first = 0; first < GATES; first += COLUMNS * LANES) {
        Vector sums[COLUMNS][K];
        UNROLLED
        for (int v = 0; v < COLUMNS; ++v)
            UNROLLED
            for (int k = 0; k < K; ++k) {
                const int at = first + v * LANES;
                sums[v][k] = load(below + at) + load(above + k * GATES + at);
            }
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            Vector w[COLUMNS];
            UNROLLED
            for (int v = 0; v < COLUMNS; ++v) w[v] = load(weight.rows[n] + first + v * LANES);
            UNROLLED
            for (int k = 0; k < K; ++k) {
                const Vector x = broadcast(h[k][n]);
                UNROLLED
                for (int v = 0; v < COLUMNS; ++v) add_product(sums[v][k], x, w[v]);
            }
        }
        UNROLLED
        for (int v = 0; v < COLUMNS; ++v)
            UNROLLED
            for (int k = 0; k < K; ++k) store(y[k] + first + v * LANES, sums[v][k]);
    }
}

// One micro-tick. below [4N] and above [K, 4N] are the messages' shares in exponents.
template <int K>
INLINE void tick(const float* below, const float* above, const Weight& weight, States<K>& states) {
    alignas(64) float powers[K][GATES], squashed[K][N];
    add_up_exponents<K>(below, above, weight, states.hidden, powers);
    raise<K * GATES>(powers[0]);
    for (int k = 0; k < K; ++k)
        for (int n = 0; n < N; n += LANES) {
            const float* at = powers[k] + n;
            const Vector input = 1.0f + load(at), update = load(at + N);
            const Vector forget = 1.0f + load(at + 2 * N), both = input * (1.0f + update);
            const Vector next = quotient(
                load(states.cell[k] + n) * both + (1.0f - update) * forget, forget * both);
            store(states.cell[k] + n, next);
            store(squashed[k] + n, next * (-2 * LOG2E));
        }
    raise<K * N>(squashed[0]);
    for (int k = 0; k < K; ++k)
        for (int n = 0; n < N; n += LANES) {
            const Vector output = 1.0f + load(powers[k] + 3 * N + n), e = load(squashed[k] + n);
            store(states.hidden[k] + n, quotient(1.0f - e, output * (1.0f + e)));
        }
}

// What a tick leaves for its gradient: the state before it, its sigmoids and its tanhs.
template <int K>
struct Tick {
    States<K> before;
    alignas(64) float input[K][N], update[K][N], forget[K][N], output[K][N], squashed[K][N];
    alignas(64) float gradient[K][GATES];  // of the gates
};

// As `tick`, keeping every factor of the gradient.
template <int K>
INLINE void tick_forwards(const float* below, const float* above, const Weight& weight,
                          States<K>& states, Tick<K>& kept) {
    kept.before = states;
    float(*powers)[GATES] = kept.gradient;  // not needed before the way back
    add_up_exponents<K>(below, above, weight, states.hidden, powers);
    raise<K * GATES>(powers[0]);
    for (int k = 0; k < K; ++k)
        for (int n = 0; n < N; n += LANES) {
            const float* at = powers[k] + n;
            const Vector input = 1.0f + load(at), e = load(at + N), update = 1.0f + e;
            const Vector forget = 1.0f + load(at + 2 * N), both = input * update;
            const Vector inverse = reciprocal(both * forget);
            const Vector i = update * forget * inverse, f = both * inverse;
            const Vector g = (1.0f - e) * input * forget * inverse;
            const Vector next = f * load(states.cell[k] + n) + i * g;
            store(kept.input[k] + n, i);
            store(kept.update[k] + n, g);
            store(kept.forget[k] + n, f);
            store(states.cell[k] + n, next);
            store(kept.squashed[k] + n, next * (-2 * LOG2E));
        }
    raise<K * N>(kept.squashed[0]);
    for (int k = 0; k < K; ++k)
        for (int n = 0; n < N; n += LANES) {
            const Vector output = 1.0f + load(powers[k] + 3 * N + n);
            const Vector e = load(kept.squashed[k] + n), squashed = 1.0f + e;
            const Vector inverse = reciprocal(output * squashed);
            const Vector o = squashed * inverse, tanh_cell = (1.0f - e) * output * inverse;
            store(kept.output[k] + n, o);
            store(kept.squashed[k] + n, tanh_cell);
            store(states.hidden[k] + n, o * tanh_cell);
        }
}

// One tick backwards: `gradients` come as dL/dh', dL/dc' and leave as dL/dh, dL/dc; dL/dgates stays
// in `kept`. weight_transposed is [4N, N], as it is, not in exponents.
template <int K>
INLINE void tick_backwards(const float* weight_transposed, Tick<K>& kept, States<K>& gradients) {
    for (int k = 0; k < K; ++k)
        for (int n = 0; n < N; n += LANES) {
            const Vector i = load(kept.input[k] + n), g = load(kept.update[k] + n);
            const Vector f = load(kept.forget[k] + n), o = load(kept.output[k] + n);
            const Vector tanh_cell = load(kept.squashed[k] + n);
            const Vector d_hidden = load(gradients.hidden[k] + n);
            const Vector d_cell = load(gradients.cell[k] + n) +
                                  d_hidden * o * (1.0f - tanh_cell * tanh_cell);
            float* to = kept.gradient[k] + n;
            store(to, d_cell * g * i * (1.0f - i));
            store(to + N, d_cell * i * (1.0f - g * g));
            store(to + 2 * N, d_cell * load(kept.before.cell[k] + n) * f * (1.0f - f));
            store(to + 3 * N, d_hidden * tanh_cell * o * (1.0f - o));
            store(gradients.cell[k] + n, d_cell * f);
        }
    // As many sums as keep a multiply-add from waiting for the one before it.
    constexpr int PARTS = N / LANES, STRIDES = PARTS == 1 ? 4 : 1;
    Vector sums[STRIDES][PARTS][K] = {};
#pragma GCC unroll 4
    for (int first = 0; first < GATES; first += STRIDES) {
        UNROLLED
        for (int s = 0; s < STRIDES; ++s) {
            const int j = first + s;
            Vector w[PARTS];
            UNROLLED
            for (int part = 0; part < PARTS; ++part)
                w[part] = load(weight_transposed + j * N + part * LANES);
            UNROLLED
            for (int k = 0; k < K; ++k) {
                const Vector x = broadcast(kept.gradient[k][j]);
                UNROLLED
                for (int part = 0; part < PARTS; ++part) add_product(sums[s][part][k], x, w[part]);
            }
        }
    }
    UNROLLED
    for (int part = 0; part < PARTS; ++part)
        UNROLLED
        for (int k = 0; k < K; ++k) {
            UNROLLED
            for (int s = 1; s < STRIDES; ++s) sums[0][part][k] += sums[s][part][k];
            store(gradients.hidden[k] + part * LANES, sums[0][part][k]);
        }
}

// dL/dW += sum of h^T dL/dgates over the sub-RNNs; as much of W at a time as registers hold.
template <int K>
INLINE void add_outer_products(const Tick<K>* kept, int ticks, float* d_weight) {
    constexpr int ROWS = LANES == 16 ? 4 : 2;
    for (int first = 0; first < GATES; first += 4 * LANES)
        for (int n = 0; n < N; n += ROWS) {
            Vector sums[ROWS][4];
            UNROLLED
            for (int r = 0; r < ROWS; ++r)
                UNROLLED
                for (int v = 0; v < 4; ++v)
                    sums[r][v] = load(d_weight + (n + r) * GATES + first + v * LANES);
            for (int tick = 0; tick < ticks; ++tick)
                UNROLLED
                for (int k = 0; k < K; ++k) {
                    const float* gradient = kept[tick].gradient[k] + first;
                    Vector h[ROWS];
                    UNROLLED
                    for (int r = 0; r < ROWS; ++r)
                        h[r] = broadcast(kept[tick].before.hidden[k][n + r]);
                    UNROLLED
                    for (int v = 0; v < 4; ++v) {
                        const Vector x = load(gradient + v * LANES);
                        UNROLLED
                        for (int r = 0; r < ROWS; ++r) add_product(sums[r][v], h[r], x);
                    }
                }
            UNROLLED
            for (int r = 0; r < ROWS; ++r)
                UNROLLED
                for (int v = 0; v < 4; ++v)
                    store(d_weight + (n + r) * GATES + first + v * LANES, sums[r][v]);
        }
}

// The gradient of all ticks of K sub-RNNs from `states` on. `gradients` come as dL/d of the states
// after the ticks and leave as dL/d of `states`. Adds dL/dbelow [4N], dL/dabove [K, 4N], dL/dW; the
// gradients are of gates, not of exponents.
template <int K>
INLINE void backward_block(int ticks, const float* below, const float* above, const Weight& weight,
                           const float* weight_transposed, States<K>& states, States<K>& gradients,
                           float* d_below, float* d_above, float* d_weight) {
    Tick<K> kept[MAX_TICKS];
    for (int t = 0; t < ticks; ++t) tick_forwards<K>(below, above, weight, states, kept[t]);
    for (int t = ticks - 1; t >= 0; --t) {
        tick_backwards<K>(weight_transposed, kept[t], gradients);
        for (int at = 0; at < GATES; at += LANES) {
            Vector total = load(d_below + at);
            for (int k = 0; k < K; ++k) {
                const Vector gradient = load(kept[t].gradient[k] + at);
                total += gradient;
                add(d_above + k * GATES + at, gradient);
            }
            store(d_below + at, total);
        }
    }
    add_outer_products<K>(kept, ticks, d_weight);
}

// Calls run(std::integral_constant<int, K>, b) for blocks of K outputs from b on.
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
