// One sweep of a dense VSML layer, all micro-ticks fused, and its gradient: every sub-RNN's state is
// read from memory once and written once per example, and its gates never leave the registers or the first-level
// cache. The gradient computes the gates again instead of keeping them.
//
// Shapes, row-major, N = 16: from_inputs [E, A, 4N] and from_outputs [E, B, 4N] are the messages'
// shares of the gates (i, g, f, o), bias included; weight [N, 4N] maps the own hidden state;
// hidden, cell and their outputs are [E, A, B, N]; sum_a [E, B, N] and sum_b [E, A, N] receive the
// new hidden state summed over inputs and over outputs.

#include <algorithm>
#include <vector>

#include "sub_rnn.h"

namespace {

constexpr int64_t CHUNK = 128;        // inputs that a thread takes at a time
constexpr int64_t GROUPS = 64;        // partial sums of the weight's gradient
constexpr int64_t WORTH_THREADS = 2000;  // sub-RNNs below which one thread is as quick

// The grid in chunks of inputs, the same however many threads there are: what they sum up does not
// depend on it to the last bit.
struct Chunks {
    int64_t inputs, per_lifetime, count;
    Chunks(int64_t lifetimes, int64_t inputs)
        : inputs(inputs),
          per_lifetime((inputs + CHUNK - 1) / CHUNK),
          count(lifetimes * per_lifetime) {}
    int64_t lifetime(int64_t chunk) const { return chunk / per_lifetime; }
    int64_t begin(int64_t chunk) const { return chunk % per_lifetime * CHUNK; }
    int64_t size(int64_t chunk) const { return std::min(inputs - begin(chunk), CHUNK); }
};

// Adds up, for each lifetime, what its chunks found [size].
void add_up(const Chunks& chunks, const std::vector<float>& found, int64_t size, float* sums) {
    for (int64_t chunk = 0; chunk < chunks.count; ++chunk)
        for (int64_t i = 0; i < size; ++i)
            sums[chunks.lifetime(chunk) * size + i] += found[chunk * size + i];
}

// The shares of one lifetime's outputs [B, 4N] in exponents.
std::vector<float> exponents_above(const float* from_outputs, int64_t outputs) {
    std::vector<float> above(outputs * GATES);
    for (int64_t b = 0; b < outputs; ++b)
        to_exponents(from_outputs + b * GATES, above.data() + b * GATES, true);
    return above;
}

// The shares of a block in exponents; from_inputs [A, 4N] as they are.
INLINE void fill_shares(const float* from_inputs, const float* above, const Place& place,
                        int64_t outputs, Gates& shares) {
    place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
        alignas(64) float below[GATES];
        to_exponents(from_inputs + a * GATES, below, false);
        for (int at = 0; at < GATES; at += LANES)
            store(shares[row] + at, load(below + at) + load(above + b * GATES + at));
    });
}

}  // namespace

extern "C" void vsml_sweep(int64_t threads, int64_t lifetimes, int64_t inputs, int64_t outputs,
                           int64_t ticks, const float* from_inputs, const float* from_outputs,
                           const float* weight, const float* hidden, const float* cell,
                           float* new_hidden, float* new_cell, float* sum_a, float* sum_b) {
    const Chunks chunks(lifetimes, inputs);
    const Weight scaled(weight);
    std::vector<float> totals(chunks.count * outputs * N);
    if (lifetimes * inputs * outputs < WORTH_THREADS) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < chunks.count; ++chunk) {
        const FlushToZero flush;
        const int64_t e = chunks.lifetime(chunk);
        const auto above = exponents_above(from_outputs + e * outputs * GATES, outputs);
        float* total = totals.data() + chunk * outputs * N;
        const int64_t begin = e * inputs + chunks.begin(chunk), count = chunks.size(chunk);
        const float* from_chunk = from_inputs + begin * GATES;
        float* row_sums = sum_b + begin * N;
        std::fill_n(row_sums, count * N, 0.0f);
        alignas(64) Gates shares = {};
        over_blocks(count, outputs, [&](const Place& place) {
            fill_shares(from_chunk, above.data(), place, outputs, shares);
            const int64_t at = (begin * outputs + place.first) * N;
            forward_block(static_cast<int>(ticks), shares, scaled, place.rows, hidden + at, cell + at,
                          new_hidden + at, new_cell + at);
            place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                for (int n = 0; n < N; n += LANES) {
                    const Vector out = load(new_hidden + at + row * N + n);
                    add(total + b * N + n, out);
                    add(row_sums + a * N + n, out);
                }
            });
        });
    }
    std::fill_n(sum_a, lifetimes * outputs * N, 0.0f);
    add_up(chunks, totals, outputs * N, sum_a);
}

// The gradient of vsml_sweep. hidden and cell are what the sweep started from; grad_hidden and
// grad_cell [E, A, B, N], grad_sum_a [E, B, N] and grad_sum_b [E, A, N] are dL/d of what it
// returned. Fills d_from_inputs [E, A, 4N], d_hidden and d_cell [E, A, B, N], and adds to
// d_from_outputs [E, B, 4N] and d_weight [N, 4N]. weight_transposed is [4N, N].
extern "C" void vsml_sweep_backward(
    int64_t threads, int64_t lifetimes, int64_t inputs, int64_t outputs, int64_t ticks,
    const float* from_inputs, const float* from_outputs, const float* weight,
    const float* weight_transposed, const float* hidden, const float* cell,
    const float* grad_hidden, const float* grad_cell, const float* grad_sum_a,
    const float* grad_sum_b, float* d_from_inputs, float* d_from_outputs, float* d_weight,
    float* d_hidden, float* d_cell) {
    const Chunks chunks(lifetimes, inputs);
    const Weight scaled(weight);
    const int64_t groups = std::min(chunks.count, GROUPS);
    std::vector<float> into_outputs(chunks.count * outputs * GATES), into_weight(groups * N * GATES);
    if (lifetimes * inputs * outputs < WORTH_THREADS) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t group = 0; group < groups; ++group)
        for (int64_t chunk = chunks.count * group / groups;
             chunk < chunks.count * (group + 1) / groups; ++chunk) {
            const FlushToZero flush;
            const int64_t e = chunks.lifetime(chunk);
            const auto above = exponents_above(from_outputs + e * outputs * GATES, outputs);
            const int64_t begin = e * inputs + chunks.begin(chunk), count = chunks.size(chunk);
            const float* from_chunk = from_inputs + begin * GATES;
            float* d_from_chunk = d_from_inputs + begin * GATES;
            float* into_chunk = into_outputs.data() + chunk * outputs * GATES;
            std::fill_n(d_from_chunk, count * GATES, 0.0f);
            alignas(64) Gates shares = {};
            Backward block;
            over_blocks(count, outputs, [&](const Place& place) {
                fill_shares(from_chunk, above.data(), place, outputs, shares);
                const int64_t at = (begin * outputs + place.first) * N;
                block.kept[0].before.read(hidden + at, cell + at, place.rows);
                block.gradients.read(grad_hidden + at, grad_cell + at, place.rows);
                place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                    for (int n = 0; n < N; n += LANES)
                        add(block.gradients.hidden[row] + n,
                            load(grad_sum_a + (e * outputs + b) * N + n) +
                                load(grad_sum_b + (begin + a) * N + n));
                });
                block.forwards(static_cast<int>(ticks), scaled, shares);
                block.backwards(static_cast<int>(ticks), weight_transposed,
                                into_weight.data() + group * N * GATES);
                block.gradients.write(d_hidden + at, d_cell + at, place.rows);
                place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                    for (int i = 0; i < GATES; i += LANES) {
                        const Vector gradient = load(block.d_shares[row] + i);
                        add(d_from_chunk + a * GATES + i, gradient);
                        add(into_chunk + b * GATES + i, gradient);
                    }
                });
            });
        }
    add_up(chunks, into_outputs, outputs * GATES, d_from_outputs);
    for (int64_t group = 0; group < groups; ++group)
        for (int i = 0; i < N * GATES; ++i) d_weight[i] += into_weight[group * N * GATES + i];
}
