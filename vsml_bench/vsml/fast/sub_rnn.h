// The LSTM of a VSML sub-RNN on vectors of floats, a block of sub-RNNs at a time, and its gradient.
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

#include "vectors.h"

constexpr int MAX_TICKS = 8;  // library.py asks for no more of a gradient
constexpr float LOG2E = 1.44269504088896341f;
constexpr float GATE_OFFSET = 5.0f;  // of the forget gate; its negative is the input gate's

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

// The states of a block.
struct States {
    alignas(64) Units hidden, cell;
    INLINE void read(const float* from_hidden, const float* from_cell, int rows) {
        ::read(from_hidden, rows, hidden);
        ::read(from_cell, rows, cell);
    }
    INLINE void write(float* to_hidden, float* to_cell, int rows) const {
        ::write(hidden, rows, to_hidden);
        ::write(cell, rows, to_cell);
    }
};

// y = shares + h W.
LOOP void add_up_exponents(const Gates& shares, const Units& h, const Weight& weight, Gates& y) {
#pragma GCC unroll 1
    for (int row = 0; row < ROWS; row += TILE_ROWS)
#pragma GCC unroll 1
        for (int at = 0; at < GATES; at += TILE_COLUMNS * LANES) {
            Vector sums[TILE_COLUMNS][TILE_ROWS];
            UNROLLED
            for (int v = 0; v < TILE_COLUMNS; ++v)
                UNROLLED
                for (int k = 0; k < TILE_ROWS; ++k)
                    sums[v][k] = load(shares[row + k] + at + v * LANES);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                Vector w[TILE_COLUMNS];
                UNROLLED
                for (int v = 0; v < TILE_COLUMNS; ++v)
                    w[v] = load(weight.rows[n] + at + v * LANES);
                UNROLLED
                for (int k = 0; k < TILE_ROWS; ++k) {
                    const Vector x = broadcast(h[row + k][n]);
                    UNROLLED
                    for (int v = 0; v < TILE_COLUMNS; ++v) add_product(sums[v][k], x, w[v]);
                }
            }
            UNROLLED
            for (int v = 0; v < TILE_COLUMNS; ++v)
                UNROLLED
                for (int k = 0; k < TILE_ROWS; ++k)
                    store(y[row + k] + at + v * LANES, sums[v][k]);
        }
}

// Over the vectors of a block's states, V at a time; `unit` is where the first of them is in Units.
#define OVER_UNITS(unit)    \
    _Pragma("GCC unroll 4") \
    for (int unit = 0; unit < ROWS * N; unit += V * LANES)
// Where the v-th of them is, and in Gates its gate number `gate`.
INLINE int unit_at(int unit, int v) { return unit + v * LANES; }
INLINE int gate_at(int unit, int v, int gate) {
    const int at = unit_at(unit, v);
    return at / N * GATES + gate * N + at % N;
}

// One micro-tick of a block; new states may take the place of the old. shares: the messages', in
// exponents.
LOOP void tick(const Gates& shares, const Weight& weight, const Units& hidden, const Units& cell,
               Units& new_hidden, Units& new_cell) {
    constexpr int V = UPDATES;
    alignas(64) Gates powers;
    alignas(64) Units squashed;
    add_up_exponents(shares, hidden, weight, powers);
    raise<ROWS * GATES>(powers[0]);
    OVER_UNITS(unit) {
        Vector forget[V], both[V], next[V], sum[V];  // products of 1 + x as sums: one step less
        EACH next[v] = load(powers[0] + gate_at(unit, v, 1));
        EACH sum[v] = 1.0f + next[v];
        EACH both[v] = load(powers[0] + gate_at(unit, v, 0)) * sum[v] + sum[v];
        EACH forget[v] = load(powers[0] + gate_at(unit, v, 2));
        EACH next[v] = 1.0f - next[v];
        EACH next[v] += next[v] * forget[v];
        EACH next[v] += load(cell[0] + unit_at(unit, v)) * both[v];
        EACH both[v] += both[v] * forget[v];
        divide<V>(next, both);
        EACH store(new_cell[0] + unit_at(unit, v), next[v]);
        EACH store(squashed[0] + unit_at(unit, v), next[v] * (-2 * LOG2E));
    }
    raise<ROWS * N>(squashed[0]);
    OVER_UNITS(unit) {
        Vector e[V], both[V];
        EACH e[v] = load(squashed[0] + unit_at(unit, v));
        EACH both[v] = 1.0f + e[v];
        EACH both[v] += both[v] * load(powers[0] + gate_at(unit, v, 3));
        EACH e[v] = 1.0f - e[v];
        divide<V>(e, both);
        EACH store(new_hidden[0] + unit_at(unit, v), e[v]);
    }
}

// All micro-ticks of the first `rows` sub-RNNs of a block, from states to new states [rows, N].
INLINE void forward_block(int ticks, const Gates& shares, const Weight& weight, int rows,
                          const float* hidden, const float* cell, float* new_hidden,
                          float* new_cell) {
    const auto run = [&](const Units& h, const Units& c, Units& new_h, Units& new_c) {
        tick(shares, weight, h, c, new_h, new_c);
        for (int t = 1; t < ticks; ++t) tick(shares, weight, new_h, new_c, new_h, new_c);
    };
    if (rows == ROWS) {
        run(as_units(hidden), as_units(cell), as_units(new_hidden), as_units(new_cell));
    } else {
        States states;
        states.read(hidden, cell, rows);
        run(states.hidden, states.cell, states.hidden, states.cell);
        states.write(new_hidden, new_cell, rows);
    }
}

// What a tick leaves for its gradient: the state before it, its sigmoids and its tanhs.
struct Tick {
    States before;
    alignas(64) Units input, update, forget, output, squashed;
    alignas(64) Gates gradient;  // of the gates
};

// As `tick`, from kept.before to `after`, keeping every factor of the gradient.
LOOP void tick_forwards(const Gates& shares, const Weight& weight, Tick& kept, States& after) {
    constexpr int V = UPDATES;
    Gates& powers = kept.gradient;  // not needed before the way back
    add_up_exponents(shares, kept.before.hidden, weight, powers);
    raise<ROWS * GATES>(powers[0]);
    OVER_UNITS(unit) {
        Vector e[V], forget[V], both[V], sum[V], inverse[V], whole[V];
        EACH e[v] = load(powers[0] + gate_at(unit, v, 1));
        EACH sum[v] = 1.0f + e[v];
        EACH both[v] = load(powers[0] + gate_at(unit, v, 0)) * sum[v] + sum[v];
        EACH forget[v] = load(powers[0] + gate_at(unit, v, 2));
        EACH whole[v] = both[v] * forget[v] + both[v];
        EACH inverse[v] = all(1.0f);
        divide<V>(inverse, whole);
        EACH both[v] *= inverse[v];                   // sigmoid(f + 5)
        EACH inverse[v] += inverse[v] * forget[v];
        EACH sum[v] *= inverse[v];                    // sigmoid(i - 5)
        EACH e[v] = (1.0f - e[v]) * inverse[v];
        EACH e[v] += e[v] * load(powers[0] + gate_at(unit, v, 0));  // tanh(g)
        EACH store(kept.input[0] + unit_at(unit, v), sum[v]);
        EACH store(kept.update[0] + unit_at(unit, v), e[v]);
        EACH store(kept.forget[0] + unit_at(unit, v), both[v]);
        EACH sum[v] *= e[v];
        EACH sum[v] += both[v] * load(kept.before.cell[0] + unit_at(unit, v));
        EACH store(after.cell[0] + unit_at(unit, v), sum[v]);
        EACH store(kept.squashed[0] + unit_at(unit, v), sum[v] * (-2 * LOG2E));
    }
    raise<ROWS * N>(kept.squashed[0]);
    OVER_UNITS(unit) {
        Vector e[V], output[V], sum[V], inverse[V], whole[V];
        EACH e[v] = load(kept.squashed[0] + unit_at(unit, v));
        EACH output[v] = load(powers[0] + gate_at(unit, v, 3));
        EACH sum[v] = 1.0f + e[v];
        EACH whole[v] = sum[v] * output[v] + sum[v];
        EACH inverse[v] = all(1.0f);
        divide<V>(inverse, whole);
        EACH sum[v] *= inverse[v];                    // sigmoid(o)
        EACH e[v] = (1.0f - e[v]) * inverse[v];
        EACH e[v] += e[v] * output[v];                // tanh(c')
        EACH store(kept.output[0] + unit_at(unit, v), sum[v]);
        EACH store(kept.squashed[0] + unit_at(unit, v), e[v]);
        EACH store(after.hidden[0] + unit_at(unit, v), sum[v] * e[v]);
    }
}

// dL/dh = dL/dgates W^T; weight_transposed is [4N, N], as it is, not in exponents.
LOOP void multiply_transposed(const Gates& gradient, const float* weight_transposed,
                              Units& d_hidden) {
    // so many sums that no multiply-add waits for the one before it
    constexpr int GROUP = PARTS == 1 ? ROWS : TILE_ROWS, STRIDES = PARTS == 1 ? 2 : 1;
#pragma GCC unroll 1
    for (int row = 0; row < ROWS; row += GROUP) {
        Vector sums[STRIDES][PARTS][GROUP] = {};
#pragma GCC unroll 4
        for (int first = 0; first < GATES; first += STRIDES) {
            UNROLLED
            for (int s = 0; s < STRIDES; ++s) {
                Vector w[PARTS];
                UNROLLED
                for (int part = 0; part < PARTS; ++part)
                    w[part] = load(weight_transposed + (first + s) * N + part * LANES);
                UNROLLED
                for (int k = 0; k < GROUP; ++k) {
                    const Vector x = broadcast(gradient[row + k][first + s]);
                    UNROLLED
                    for (int part = 0; part < PARTS; ++part)
                        add_product(sums[s][part][k], x, w[part]);
                }
            }
        }
        UNROLLED
        for (int part = 0; part < PARTS; ++part)
            UNROLLED
            for (int k = 0; k < GROUP; ++k) {
                UNROLLED
                for (int s = 1; s < STRIDES; ++s) sums[0][part][k] += sums[s][part][k];
                store(d_hidden[row + k] + part * LANES, sums[0][part][k]);
            }
    }
}

// One tick backwards: `gradients` come as dL/dh', dL/dc' and leave as dL/dh, dL/dc; dL/dgates stays
// in `kept`.
LOOP void tick_backwards(const float* weight_transposed, Tick& kept, States& gradients) {
#pragma GCC unroll 1
    for (int row = 0; row < ROWS; ++row)
        UNROLLED
        for (int n = 0; n < N; n += LANES) {
            const Vector i = load(kept.input[row] + n), g = load(kept.update[row] + n);
            const Vector f = load(kept.forget[row] + n), o = load(kept.output[row] + n);
            const Vector tanh_cell = load(kept.squashed[row] + n);
            const Vector d_hidden = load(gradients.hidden[row] + n);
            const Vector d_cell = load(gradients.cell[row] + n) +
                                  d_hidden * o * (1.0f - tanh_cell * tanh_cell);
            float* to = kept.gradient[row] + n;
            store(to, d_cell * g * i * (1.0f - i));
            store(to + N, d_cell * i * (1.0f - g * g));
            store(to + 2 * N, d_cell * load(kept.before.cell[row] + n) * f * (1.0f - f));
            store(to + 3 * N, d_hidden * tanh_cell * o * (1.0f - o));
            store(gradients.cell[row] + n, d_cell * f);
        }
    multiply_transposed(kept.gradient, weight_transposed, gradients.hidden);
}

// dL/dW += sum of h^T dL/dgates over the sub-RNNs; as much of W at a time as registers hold.
LOOP void add_outer_products(const Tick* kept, int ticks, float* d_weight) {
    constexpr int UNITS = LANES == 16 ? 4 : 2;
    for (int first = 0; first < GATES; first += 4 * LANES)
        for (int n = 0; n < N; n += UNITS) {
            Vector sums[UNITS][4];
            UNROLLED
            for (int r = 0; r < UNITS; ++r)
                UNROLLED
                for (int v = 0; v < 4; ++v)
                    sums[r][v] = load(d_weight + (n + r) * GATES + first + v * LANES);
            for (int t = 0; t < ticks; ++t)
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; ++row) {
                    const float* gradient = kept[t].gradient[row] + first;
                    Vector h[UNITS];
                    UNROLLED
                    for (int r = 0; r < UNITS; ++r)
                        h[r] = broadcast(kept[t].before.hidden[row][n + r]);
                    UNROLLED
                    for (int v = 0; v < 4; ++v) {
                        const Vector x = load(gradient + v * LANES);
                        UNROLLED
                        for (int r = 0; r < UNITS; ++r) add_product(sums[r][v], h[r], x);
                    }
                }
            UNROLLED
            for (int r = 0; r < UNITS; ++r)
                UNROLLED
                for (int v = 0; v < 4; ++v)
                    store(d_weight + (n + r) * GATES + first + v * LANES, sums[r][v]);
        }
}

// The gradient of all micro-ticks of a block.
struct Backward {
    Tick kept[MAX_TICKS + 1];    // the first has the states to start from; the last, states alone
    States gradients;            // dL/d of the states after the ticks, then of those before
    alignas(64) Gates d_shares;  // dL/dshares, of gates, not of exponents

    // Fills `kept`; shares: in exponents. Returns the states after the ticks.
    INLINE const States& forwards(int ticks, const Weight& weight, const Gates& shares) {
        for (int t = 0; t < ticks; ++t)
            tick_forwards(shares, weight, kept[t], kept[t + 1].before);
        return kept[ticks].before;
    }
    // After it: adds dL/dW to d_weight and fills the others.
    INLINE void backwards(int ticks, const float* weight_transposed, float* d_weight) {
        for (int t = ticks - 1; t >= 0; --t) tick_backwards(weight_transposed, kept[t], gradients);
        for (int i = 0; i < ROWS * GATES; i += LANES) {
            Vector total = load(kept[0].gradient[0] + i);
            for (int t = 1; t < ticks; ++t) total += load(kept[t].gradient[0] + i);
            store(d_shares[0] + i, total);
        }
        add_outer_products(kept, ticks, d_weight);
    }
};

// Consecutive sub-RNNs, as they lie in memory: `rows` of them from number `first` on, which is at input
// a and output b.
struct Place {
    int64_t first = 0, a = 0, b = 0;
    int rows = 0;

    // Calls run(row, a, b) for each.
    template <class Run>
    INLINE void over_rows(int64_t outputs, Run run) const {
        int64_t input = a, output = b;
        for (int row = 0; row < rows; ++row) {
            run(row, input, output);
            if (++output == outputs) output = 0, ++input;
        }
    }
};

// Calls run(place) for the sub-RNNs of `inputs` inputs and their outputs, block by block.
template <class Run>
INLINE void over_blocks(int64_t inputs, int64_t outputs, Run run) {
    const int64_t end = inputs * outputs;
    for (Place place; place.first < end; place.first += ROWS) {
        place.rows = static_cast<int>(std::min<int64_t>(ROWS, end - place.first));
        run(place);
        for (place.b += ROWS; place.b >= outputs; place.b -= outputs) ++place.a;
    }
}
