// A VSML network with dense layers, and a sweep of a layer for one example, with its gradient.

#pragma once

#include "messages.h"

// A layer of A x B sub-RNNs, and where in a lifetime's floats its own are.
struct Layer {
    int64_t inputs, outputs;
    int64_t states, above, below;  // h or c [A, B, N], messages from above [B, M], from below [A, M]
    int64_t grid() const { return inputs * outputs; }
};

struct Network {
    int ticks;
    bool norm, feed_label, backward_pass;
    int64_t kinds = 0;  // of sub-RNNs
    std::vector<Layer> layers;
    std::vector<int64_t> kind[2];  // of each layer, on the way up and on the way down
    // A lifetime's floats: states h or c, messages from above, and from below. These are kept from the
    // second layer on.
    int64_t states = 0, above = 0, below = 0;

    // numbers: as `lifetimes.py` lists them.
    explicit Network(const int64_t* numbers)
        : ticks(static_cast<int>(numbers[1])), norm(numbers[2]), feed_label(numbers[3]),
          backward_pass(numbers[4]) {
        const int64_t count = numbers[0], *widths = numbers + 5, *kinds_of = widths + count + 1;
        for (int64_t l = 0; l < count; ++l) {
            layers.push_back({widths[l], widths[l + 1], states, above, below});
            states += layers.back().grid() * N;
            above += widths[l + 1] * M;
            if (l > 0) below += widths[l] * M;
            for (int down = 0; down < 2; ++down) {
                kind[down].push_back(kinds_of[down * count + l]);
                kinds = std::max(kinds, kind[down].back() + 1);
            }
        }
    }
    int64_t last() const { return static_cast<int64_t>(layers.size()) - 1; }
    int64_t sweeps() const { return backward_pass ? 2 : 1; }  // of each layer for an example
    int64_t outputs() const { return layers.back().outputs; }
};

// Where the states of a layer are.
struct At {
    float *hidden, *cell;
    At operator+(int64_t floats) const { return {hidden + floats, cell + floats}; }
};

// Asks for the states of a block, which may be far away: the tape is larger than any cache.
constexpr int AHEAD = 4;  // blocks
INLINE void fetch(const float* of_block) {
    for (int i = 0; i < ROWS * N; i += 16) __builtin_prefetch(of_block + i);
}

// A thread's sweeps through layers of one lifetime.
class Sweeper {
    const Network& network;
    std::vector<float> below, above, d_below, d_above;  // shares of the gates [A, 4N], [B, 4N]
    std::vector<float> up, down, d_up, d_down;  // sums of what is said [B, N], [A, N]
    alignas(64) Units padded, said, inverse, d_said;
    Backward block;

    // What a block's shares are made of: arrays that the compiler knows nothing else writes to.
    template <bool FIRST>
    struct Seen {
        const float *below, *above;  // x [A] in the first layer, else shares [A, 4N]; shares [B, 4N]
        alignas(64) float from_x[GATES];
        Seen(const Kind& kind, const float* below, const float* above) : below(below), above(above) {
            copy(kind.from_below[0], GATES, from_x);
        }
        INLINE void fill(const Place& place, int64_t outputs, Gates& shares) const {
            place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                for (int at = 0; at < GATES; at += LANES) {
                    const Vector from_above = load(above + b * GATES + at);
                    if constexpr (FIRST)
                        store(shares[row] + at, below[a] * load(from_x + at) + from_above);
                    else
                        store(shares[row] + at, load(below + a * GATES + at) + from_above);
                }
            });
        }
    };
    template <bool FIRST>
    Seen<FIRST> begin(const Kind& kind, const Layer& layer, const float* from_below, const float* from_above) {
        add_up_shares(from_above, layer.outputs, kind.from_above, kind.bias, above.data());
        if (!FIRST) add_up_shares(from_below, layer.inputs, kind.from_below, nullptr, below.data());
        std::fill_n(up.begin(), layer.outputs * N, 0.0f);
        if (!FIRST) std::fill_n(down.begin(), layer.inputs * N, 0.0f);
        return {kind, FIRST ? from_below : below.data(), above.data()};
    }
    template <bool FIRST>
    static INLINE void add_said(const float* of_block, const Place& place, int64_t outputs, float* up,
                                float* down) {
        place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
            for (int n = 0; n < N; n += LANES) {
                const Vector own = load(of_block + row * N + n);
                add(up + b * N + n, own);
                if (!FIRST) add(down + a * N + n, own);
            }
        });
    }

public:
    explicit Sweeper(const Network& network) : network(network) {
        int64_t inputs = 0, outputs = 0;
        for (const Layer& layer : network.layers) {
            inputs = std::max(inputs, layer.inputs);
            outputs = std::max(outputs, layer.outputs);
        }
        for (auto* each : {&above, &d_above}) each->resize(outputs * GATES);
        for (auto* each : {&up, &d_up}) each->resize(outputs * N);
        for (auto* each : {&below, &d_below}) each->resize(inputs * GATES);
        for (auto* each : {&down, &d_down}) each->resize(inputs * N);
    }

    // Runs the ticks of a layer's sub-RNNs from states to states. from_below is x [A] in the first layer.
    // Fills messages up [B, M] and down [A, M] where they are not null.
    template <bool FIRST>
    void sweep(const Kind& kind, const Layer& layer, const float* from_below, const float* from_above,
               At before, At after, float* up_messages, float* down_messages) {
        const Seen<FIRST> seen = begin<FIRST>(kind, layer, from_below, from_above);
        const bool norm = network.norm;
        const int ticks = network.ticks;
        const int64_t outputs = layer.outputs;
        float *said_up = up.data(), *said_down = down.data();
        alignas(64) Gates shares = {};
        over_blocks(layer.inputs, outputs, [&](const Place& place) {
            const At own = after + place.first * N, old = before + place.first * N;
            seen.fill(place, outputs, shares);
            forward_block(ticks, shares, kind.weight, place.rows, old.hidden, old.cell,
                          own.hidden, own.cell);
            const float* of_block = own.hidden;
            if (norm) {
                const bool whole = place.rows == ROWS;
                if (!whole) read(own.hidden, place.rows, padded);
                normalise(kind.own, whole ? as_units(own.hidden) : padded, said, inverse);
                of_block = said[0];
            }
            add_said<FIRST>(of_block, place, outputs, said_up, said_down);
        });
        if (up_messages) speak(kind.own, false, up.data(), layer.outputs, layer.inputs, up_messages);
        if (down_messages) speak(kind.own, true, down.data(), layer.inputs, layer.outputs, down_messages);
    }

    // The gradient of `sweep`: d_states are dL/d of the states after it and become those before it;
    // d_up_messages and d_down_messages are null where it filled none. Adds dL/d of the messages that
    // reached it to d_from_below and d_from_above, and of the meta-parameters to `into`.
    template <bool FIRST>
    void sweep_backwards(const Kind& kind, const Layer& layer, const float* from_below,
                         const float* from_above, At before, At d_states, const float* d_up_messages,
                         const float* d_down_messages, float* d_from_below, float* d_from_above,
                         SubRNN& into) {
        const Seen<FIRST> seen = begin<FIRST>(kind, layer, from_below, from_above);
        const bool norm = network.norm;
        const int ticks = network.ticks;
        const int64_t inputs = layer.inputs, outputs = layer.outputs;
        float *said_up = up.data(), *said_down = down.data();
        float *into_above = d_above.data(), *into_below = d_below.data();
        const float* d_said_up = d_up_messages ? d_up.data() : nullptr;
        const float* d_said_down = d_down_messages ? d_down.data() : nullptr;
        alignas(64) Gates shares = {};
        std::fill_n(d_above.begin(), outputs * GATES, 0.0f);
        if (!FIRST) std::fill_n(d_below.begin(), inputs * GATES, 0.0f);
        if (d_up_messages) speak_backwards(kind, false, d_up_messages, outputs, inputs, d_up.data());
        if (d_down_messages) speak_backwards(kind, true, d_down_messages, inputs, outputs, d_down.data());
        over_blocks(inputs, outputs, [&](const Place& place) {
            seen.fill(place, outputs, shares);
            const int64_t at = place.first * N, later = at + AHEAD * ROWS * N;
            for (const float* from : {before.hidden, before.cell, d_states.hidden, d_states.cell})
                fetch(from + later);
            block.kept[0].before.read(before.hidden + at, before.cell + at, place.rows);
            block.gradients.read(d_states.hidden + at, d_states.cell + at, place.rows);
            const Units& hidden = block.forwards(ticks, kind.weight, shares).hidden;
            Units& into_said = norm ? d_said : block.gradients.hidden;
            if (norm) {
                normalise(kind.own, hidden, said, inverse);
                std::fill_n(d_said[0], ROWS * N, 0.0f);
            }
            add_said<FIRST>(norm ? said[0] : hidden[0], place, outputs, said_up, said_down);
            place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                for (int n = 0; n < N; n += LANES) {
                    if (d_said_up) add(into_said[row] + n, load(d_said_up + b * N + n));
                    if (d_said_down) add(into_said[row] + n, load(d_said_down + a * N + n));
                }
            });
            if (norm)
                normalise_backwards(kind, hidden, said, inverse, d_said, into, block.gradients.hidden);
            block.backwards(ticks, kind.weight_transposed[0], into.weight[0]);
            block.gradients.write(d_states.hidden + at, d_states.cell + at, place.rows);
            place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                for (int i = 0; i < GATES; i += LANES) {
                    const Vector gradient = load(block.d_shares[row] + i);
                    if constexpr (FIRST)
                        add(into.from_below[0] + i, from_below[a] * gradient);
                    else
                        add(into_below + a * GATES + i, gradient);
                    add(into_above + b * GATES + i, gradient);
                }
            });
        });
        if (d_up_messages) add_to_heads(false, up.data(), d_up_messages, outputs, inputs, into);
        if (d_down_messages) add_to_heads(true, down.data(), d_down_messages, inputs, outputs, into);
        for (int64_t b = 0; b < outputs; ++b)
            for (int i = 0; i < GATES; i += LANES) add(into.bias + i, load(d_above.data() + b * GATES + i));
        add_up_shares_backwards(from_above, outputs, kind.above_transposed, d_above.data(),
                                into.from_above, d_from_above);
        if (!FIRST)
            add_up_shares_backwards(from_below, inputs, kind.below_transposed, d_below.data(),
                                    into.from_below, d_from_below);
    }
};
