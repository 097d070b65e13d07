// What sub-RNNs tell each other, and the gradient of it. Messages are read and written once per
// neuron, not once per sub-RNN, for they are sums over what the sub-RNNs say: their new h, or with
// LayerNorm their messages, normalised, but neither scaled nor shifted. So, with the means of what is
// said over inputs a or over outputs b,
//
//     messages up (first half), messages down (second half) = mean said . heads + heads_bias

#pragma once

#include <cmath>
#include <vector>

#include "sub_rnn.h"

constexpr int M = 8;  // channels of a message
static_assert(2 * M == N);
constexpr float NORM_EPSILON = 1e-5f;

// Meta-parameters of one kind of sub-RNN, as `lifetimes.py` packs them, or their gradient.
struct SubRNN {
    float weight[N][GATES], from_below[M][GATES], from_above[M][GATES], bias[GATES];
    float heads[N][N], heads_bias[N];
    float norm[N][N], norm_bias[N];  // h to the messages up and down, each less its mean: for LayerNorm
};

template <int ROWS_, int COLUMNS>
void transpose(const float (&from)[ROWS_][COLUMNS], float (&to)[COLUMNS][ROWS_]) {
    for (int i = 0; i < ROWS_; ++i)
        for (int j = 0; j < COLUMNS; ++j) to[j][i] = from[i][j];
}

// The same as sweeps need it: gates in exponents, and matrices transposed, for the gradient.
struct Kind {
    const SubRNN& own;
    Weight weight;
    alignas(64) float from_below[M][GATES], from_above[M][GATES], bias[GATES];
    alignas(64) float weight_transposed[GATES][N], below_transposed[GATES][M], above_transposed[GATES][M];
    alignas(64) float heads_transposed[N][N], norm_transposed[N][N];

    explicit Kind(const SubRNN& own) : own(own), weight(own.weight[0]) {
        for (int m = 0; m < M; ++m) {
            to_exponents(own.from_below[m], from_below[m], false);
            to_exponents(own.from_above[m], from_above[m], false);
        }
        to_exponents(own.bias, bias, true);
        transpose(own.weight, weight_transposed);
        transpose(own.from_below, below_transposed);
        transpose(own.from_above, above_transposed);
        transpose(own.heads, heads_transposed);
        transpose(own.norm, norm_transposed);
    }
};

// Shares of the gates [neurons, 4N] of messages [neurons, M]. bias may be null.
inline void add_up_shares(const float* messages, int64_t neurons, const float (&from)[M][GATES],
                          const float* bias, float* shares) {
    constexpr int V = GATES / LANES;
    for (int64_t u = 0; u < neurons; ++u) {
        Vector sums[V];
        EACH sums[v] = bias ? load(bias + v * LANES) : Vector{};
        for (int m = 0; m < M; ++m) {
            const float x = messages[u * M + m];
            if (x == 0.0f) continue;  // at the top most are
            EACH sums[v] += x * load(from[m] + v * LANES);
        }
        EACH store(shares + u * GATES + v * LANES, sums[v]);
    }
}

// Messages [neurons, M], up or down, from sums of what `count` sub-RNNs say [neurons, N].
inline void speak(const SubRNN& own, bool down, const float* sums, int64_t neurons, int64_t count,
                  float* messages) {
    const float number = count;
    for (int64_t u = 0; u < neurons; ++u) {
        float means[N], both[N];
        for (int n = 0; n < N; n += LANES) store(means + n, load(sums + u * N + n) / number);
        for (int m = 0; m < N; m += LANES) {
            Vector sum = load(own.heads_bias + m);
            UNROLLED
            for (int n = 0; n < N; ++n) sum += means[n] * load(own.heads[n] + m);
            store(both + m, sum);
        }
        std::copy_n(both + down * M, M, messages + u * M);
    }
}

// The gradient of `speak`: adds dL/dheads to `into`, from dL/dmessages and the same sums.
inline void add_to_heads(bool down, const float* sums, const float* d_messages, int64_t neurons,
                         int64_t count, SubRNN& into) {
    for (int64_t u = 0; u < neurons; ++u) {
        float of_sum[M];
        for (int m = 0; m < M; ++m) {
            into.heads_bias[down * M + m] += d_messages[u * M + m];
            of_sum[m] = d_messages[u * M + m] / count;
        }
        for (int n = 0; n < N; ++n)
            for (int m = 0; m < M; ++m) into.heads[n][down * M + m] += of_sum[m] * sums[u * N + n];
    }
}

// And dL/dsaid of each sub-RNN [neurons, N].
inline void speak_backwards(const Kind& kind, bool down, const float* d_messages, int64_t neurons,
                            int64_t count, float* d_said) {
    const float share = 1.0f / count;
    for (int64_t u = 0; u < neurons; ++u)
        for (int n = 0; n < N; n += LANES) {
            Vector sum = {};
            UNROLLED
            for (int m = 0; m < M; ++m)
                sum += d_messages[u * M + m] * load(kind.heads_transposed[down * M + m] + n);
            store(d_said + u * N + n, sum * share);
        }
}

// The gradient of `add_up_shares`: adds dL/dweights to `into`, dL/dmessages to d_messages if that is not null.
inline void add_up_shares_backwards(const float* messages, int64_t neurons,
                                    const float (&transposed)[GATES][M], const float* d_shares,
                                    float (&into)[M][GATES], float* d_messages) {
    for (int64_t u = 0; u < neurons; ++u) {
        const float* gradient = d_shares + u * GATES;
        for (int m = 0; m < M; ++m)
            if (messages[u * M + m] != 0.0f)
                for (int at = 0; at < GATES; at += LANES)
                    add(into[m] + at, messages[u * M + m] * load(gradient + at));
        if (!d_messages) continue;
        float sums[4][M] = {};  // no product waits for the one before it
        for (int i = 0; i < GATES; i += 4)
            for (int k = 0; k < 4; ++k)
                for (int m = 0; m < M; ++m) sums[k][m] += gradient[i + k] * transposed[i + k][m];
        for (int m = 0; m < M; ++m)
            d_messages[u * M + m] += (sums[0][m] + sums[1][m]) + (sums[2][m] + sums[3][m]);
    }
}

// In all lanes of a message their mean. x: the vectors of a sub-RNN's two messages.
INLINE void take_means(Vector (&x)[PARTS]) {
#if defined(__AVX__)
    UNROLLED
    for (int part = 0; part < PARTS; ++part) {
#ifdef __AVX512DQ__
#define SWAP(BY)                                                                                    \
    __builtin_shuffle(x[part], Bits{0 ^ BY, 1 ^ BY, 2 ^ BY, 3 ^ BY, 4 ^ BY, 5 ^ BY, 6 ^ BY, 7 ^ BY, \
                                    8 ^ BY, 9 ^ BY, 10 ^ BY, 11 ^ BY, 12 ^ BY, 13 ^ BY, 14 ^ BY, 15 ^ BY})
#else
#define SWAP(BY) \
    __builtin_shuffle(x[part], Bits{0 ^ BY, 1 ^ BY, 2 ^ BY, 3 ^ BY, 4 ^ BY, 5 ^ BY, 6 ^ BY, 7 ^ BY})
#endif
        x[part] += SWAP(1);
        x[part] += SWAP(2);
        x[part] += SWAP(4);
#undef SWAP
        x[part] *= 1.0f / M;
    }
#else
    for (int half = 0; half < 2; ++half) {
        float sum = 0.0f;
        for (int m = 0; m < M; ++m) sum += x[(half * M + m) / LANES][m % LANES];
        for (int part = half * M / LANES; part < (half + 1) * M / LANES; ++part) x[part] = all(sum / M);
    }
#endif
}

// 1 / sqrt(x)
INLINE Vector inverse_root(const Vector& x) {
#if defined(__AVX512DQ__)
    const Vector guess = (Vector)_mm512_rsqrt14_ps((__m512)x);
    return guess * (1.5f - 0.5f * x * guess * guess);
#else
    Vector result;
    for (int lane = 0; lane < LANES; ++lane) result[lane] = 1.0f / std::sqrt(x[lane]);
    return result;
#endif
}

// x w of a block, w [N, N], with the bias, or where that is null added to `sums`.
LOOP void multiply(const Units& x, const float (&w)[N][N], const float* bias, Units& sums) {
    UNROLLED
    for (int part = 0; part < PARTS; ++part)
#pragma GCC unroll 1
        for (int row = 0; row < ROWS; row += TILE_ROWS) {
            Vector sum[TILE_ROWS];
            UNROLLED
            for (int k = 0; k < TILE_ROWS; ++k)
                sum[k] = bias ? load(bias + part * LANES) : load(sums[row + k] + part * LANES);
            UNROLLED
            for (int n = 0; n < N; ++n) {
                const Vector column = load(w[n] + part * LANES);
                UNROLLED
                for (int k = 0; k < TILE_ROWS; ++k) add_product(sum[k], broadcast(x[row + k][n]), column);
            }
            UNROLLED
            for (int k = 0; k < TILE_ROWS; ++k) store(sums[row + k] + part * LANES, sum[k]);
        }
}

// LayerNorm of a block's messages: what is said, and 1 / standard deviation of each.
LOOP void normalise(const SubRNN& own, const Units& hidden, Units& said, Units& inverse) {
    multiply(hidden, own.norm, own.norm_bias, said);
    UNROLLED
    for (int row = 0; row < ROWS; ++row) {
        Vector squares[PARTS];
        for (int part = 0; part < PARTS; ++part) {
            const Vector z = load(said[row] + part * LANES);
            squares[part] = z * z;
        }
        take_means(squares);
        for (int part = 0; part < PARTS; ++part) {
            const Vector factor = inverse_root(squares[part] + NORM_EPSILON);
            store(inverse[row] + part * LANES, factor);
            store(said[row] + part * LANES, factor * load(said[row] + part * LANES));
        }
    }
}

// Its gradient: d_said becomes dL/d(messages less their means); that of `norm` is added to `into`,
// dL/dh to d_hidden.
LOOP void normalise_backwards(const Kind& kind, const Units& hidden, const Units& said,
                              const Units& inverse, Units& d_said, SubRNN& into, Units& d_hidden) {
    UNROLLED
    for (int row = 0; row < ROWS; ++row) {
        Vector products[PARTS];
        for (int part = 0; part < PARTS; ++part)
            products[part] = load(d_said[row] + part * LANES) * load(said[row] + part * LANES);
        take_means(products);
        for (int part = 0; part < PARTS; ++part) {
            const int n = part * LANES;
            const Vector rest = load(d_said[row] + n) - products[part] * load(said[row] + n);
            const Vector gradient = rest * load(inverse[row] + n);
            store(d_said[row] + n, gradient);
            add(into.norm_bias + n, gradient);
        }
    }
    constexpr int UNITS = 8;
    for (int n = 0; n < N; n += UNITS)
        for (int part = 0; part < PARTS; ++part) {
            Vector sums[UNITS];
            UNROLLED
            for (int r = 0; r < UNITS; ++r) sums[r] = load(into.norm[n + r] + part * LANES);
            for (int row = 0; row < ROWS; ++row) {
                const Vector gradient = load(d_said[row] + part * LANES);
                UNROLLED
                for (int r = 0; r < UNITS; ++r) add_product(sums[r], broadcast(hidden[row][n + r]), gradient);
            }
            UNROLLED
            for (int r = 0; r < UNITS; ++r) store(into.norm[n + r] + part * LANES, sums[r]);
        }
    multiply(d_said, kind.norm_transposed, nullptr, d_hidden);
}
