// Whole lifetimes of a VSML network with one dense layer, and their gradient: threads take lifetimes
// for many steps at a time, through which a lifetime's state stays in one core's cache.
//
// Of the messages only one channel each way carries anything: the forward message of input a is x_a
// on channel 0, the backward message of output b is the previous error e_b on channel 0, and of what
// the network sends up only channel 1 is read. So, with w_x, w_e [4N] the weights of those channels,
// bias [4N] and v [N], v_0 the head of channel 1, a step is
//
//     shares of sub-RNN (a, b)   x_a w_x + bias + e_b w_e
//     z_b = v . mean_a h'_ab + v_0,   logit_b = L tanh(z_b / L),   L = 100
//     e <- softmax(logits) - onehot(label)
//
// Shapes, row-major: P members of a population, each with meta-parameters of its own, live E
// lifetimes of T steps with A inputs and B outputs each, on inputs [P or 1, T, E, A] and labels
// [P or 1, T, E]: where the first axis is 1, these are common to all members.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "sub_rnn.h"

namespace {

constexpr float LOGIT_BOUND = 100.0f;
constexpr int64_t SPANS = 16;  // about so many for each thread

// Where the meta-parameters of a member are: [P, ...] arrays.
struct MetaParameters {
    const float *from_input, *bias, *from_error, *weight, *head, *head_bias;
    INLINE MetaParameters of(int64_t member) const {
        return {from_input + member * GATES, bias + member * GATES,      from_error + member * GATES,
                weight + member * N * GATES, head + member * N, head_bias + member};
    }
};

// The same in exponents.
struct Shares {
    alignas(64) float from_input[GATES], bias[GATES], from_error[GATES];
    explicit Shares(const MetaParameters& own) {
        to_exponents(own.from_input, from_input, false);
        to_exponents(own.bias, bias, true);
        to_exponents(own.from_error, from_error, false);
    }
    // What does not depend on the input, [B, 4N].
    void above(const float* errors, int64_t outputs, float* shares) const {
        for (int64_t b = 0; b < outputs; ++b)
            for (int at = 0; at < GATES; at += LANES)
                store(shares + b * GATES + at, errors[b] * load(from_error + at) + load(bias + at));
    }
    // Of a block, from inputs x [A].
    INLINE void fill(const float* x, const float* above, const Place& place, int64_t outputs,
                     Gates& shares) const {
        place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
            for (int at = 0; at < GATES; at += LANES)
                store(shares[row] + at, x[a] * load(from_input + at) + load(above + b * GATES + at));
        });
    }
};

// Logits and the error that they leave, from the means of hidden states [B, N].
void read_out(const MetaParameters& own, const float* means, int64_t outputs, int64_t label,
              float* logits, float* errors) {
    float largest = -INFINITY, total = 0.0f;
    for (int64_t b = 0; b < outputs; ++b) {
        float z = *own.head_bias;
        for (int n = 0; n < N; ++n) z += own.head[n] * means[b * N + n];
        logits[b] = LOGIT_BOUND * std::tanh(z / LOGIT_BOUND);
        largest = std::max(largest, logits[b]);
    }
    for (int64_t b = 0; b < outputs; ++b) total += errors[b] = std::exp(logits[b] - largest);
    for (int64_t b = 0; b < outputs; ++b) errors[b] = errors[b] / total - (b == label);
}

// Calls live(life, begin, end) for spans of the steps of each lifetime, one after the other, with
// lifetimes side by side: spans are so many that all threads end at nearly the same time.
template <class Live>
void over_spans(int64_t threads, int64_t lifetimes, int64_t steps, Live live) {
    if (lifetimes == 0) return;
    threads = std::min(threads, lifetimes);
    const int64_t wanted = (SPANS * threads + lifetimes - 1) / lifetimes;
    const int64_t length = std::max<int64_t>((steps + wanted - 1) / wanted, 1);
    const int64_t spans = std::max<int64_t>((steps + length - 1) / length, 1);
    const std::unique_ptr<std::atomic<int64_t>[]> done(new std::atomic<int64_t>[lifetimes]());
    // monotonic: a span that another waits for has been taken before it
#pragma omp parallel for num_threads(threads) schedule(monotonic : dynamic)
    for (int64_t item = 0; item < spans * lifetimes; ++item) {
        const int64_t span = item / lifetimes, life = item % lifetimes;
        while (done[life].load(std::memory_order_acquire) < span) std::this_thread::yield();
        live(life, span * length, std::min(steps, (span + 1) * length));
        done[life].store(span + 1, std::memory_order_release);
    }
}

}  // namespace

// hidden, cell: states to start from, [P or 1, E, A, B, N]; errors: e to start from, [P or 1, E, B];
// where *_members is 1, all members start from the same. Fills logits [P, T, E, B], last_hidden,
// last_cell [P, E, A, B, N], last_errors [P, E, B]. Where the tapes are not null (then P is 1), they
// get what the gradient needs: the states before each step [T, E, A, B, N], e before each step
// [T, E, B] and the means of h' [T, E, B, N].
extern "C" void vsml_lifetimes(
    int64_t threads, int64_t members, int64_t steps, int64_t lifetimes, int64_t size,
    int64_t outputs, int64_t ticks, int64_t input_members, int64_t state_members,
    int64_t error_members,
    const float* inputs, const int64_t* labels, const float* from_input, const float* bias,
    const float* from_error, const float* weight, const float* head, const float* head_bias,
    const float* hidden, const float* cell, const float* errors, float* logits, float* last_hidden,
    float* last_cell, float* last_errors, float* hidden_tape, float* cell_tape, float* error_tape,
    float* mean_tape) {
    const MetaParameters all_members{from_input, bias, from_error, weight, head, head_bias};
    const int64_t floats = size * outputs * N;
    over_spans(threads, members * lifetimes, steps, [&](int64_t life, int64_t begin, int64_t end) {
        const FlushToZero flush;
        const int64_t p = life / lifetimes, e = life % lifetimes;
        const MetaParameters own = all_members.of(p);
        const Shares shares(own);
        const Weight scaled(own.weight);
        const int64_t examples = input_members == 1 ? 0 : p * steps;  // before the member's own
        const int64_t from = state_members == 1 ? e : life;
        float* error = last_errors + life * outputs;
        std::vector<float> above(outputs * GATES), means(outputs * N);
        alignas(64) Gates of_block = {};
        // The states before a step are on its tape, if there is one.
        struct At {
            float *hidden, *cell;
        };
        const auto states_before = [&](int64_t t) -> At {
            if (!hidden_tape || t == steps)
                return {last_hidden + life * floats, last_cell + life * floats};
            const int64_t at = (t * lifetimes + e) * floats;
            return {hidden_tape + at, cell_tape + at};
        };
        if (begin == 0) {
            std::copy_n(hidden + from * floats, floats, states_before(0).hidden);
            std::copy_n(cell + from * floats, floats, states_before(0).cell);
            std::copy_n(errors + (error_members == 1 ? e : life) * outputs, outputs, error);
        }
        for (int64_t t = begin; t < end; ++t) {
            const int64_t step = t * lifetimes + e;
            if (error_tape) std::copy_n(error, outputs, error_tape + step * outputs);
            const At before = states_before(t), after = states_before(t + 1);
            const int64_t example = examples * lifetimes + step;
            const float* x = inputs + example * size;
            shares.above(error, outputs, above.data());
            std::fill(means.begin(), means.end(), 0.0f);
            over_blocks(size, outputs, [&](const Place& place) {
                const int64_t at = place.first * N;
                shares.fill(x, above.data(), place, outputs, of_block);
                forward_block(static_cast<int>(ticks), of_block, scaled, place.rows,
                              before.hidden + at, before.cell + at, after.hidden + at,
                              after.cell + at);
                place.over_rows(outputs, [&](int row, int64_t, int64_t b) {
                    for (int n = 0; n < N; n += LANES)
                        add(means.data() + b * N + n, load(after.hidden + at + row * N + n));
                });
            });
            for (float& mean : means) mean /= size;
            if (mean_tape) std::copy(means.begin(), means.end(), mean_tape + step * outputs * N);
            read_out(own, means.data(), outputs, labels[example],
                     logits + ((p * steps + t) * lifetimes + e) * outputs, error);
        }
    });
}

// The gradient of vsml_lifetimes for one member: from dL/dlogits [T, E, B] and dL/d of the last
// states, in d_hidden and d_cell [E, A, B, N], and errors, in d_errors [E, B], to those of the first
// ones, in the same places. Fills, for each lifetime, the gradients of the meta-parameters:
// d_from_input, d_bias, d_from_error [E, 4N], d_weight [E, N, 4N], d_head [E, N], d_head_bias [E].
extern "C" void vsml_lifetimes_backward(
    int64_t threads, int64_t steps, int64_t lifetimes, int64_t size, int64_t outputs,
    int64_t ticks, const float* inputs, const int64_t* labels, const float* from_input,
    const float* bias, const float* from_error, const float* weight,
    const float* weight_transposed, const float* head, const float* head_bias,
    const float* logits, const float* hidden_tape, const float* cell_tape,
    const float* error_tape, const float* mean_tape, const float* grad_logits, float* d_hidden,
    float* d_cell, float* d_errors, float* d_from_input, float* d_bias, float* d_from_error,
    float* d_weight, float* d_head, float* d_head_bias) {
    const MetaParameters own{from_input, bias, from_error, weight, head, head_bias};
    const Shares shares(own);
    const Weight scaled(weight);
    const int64_t floats = size * outputs * N;
    over_spans(threads, lifetimes, steps, [&](int64_t e, int64_t begin, int64_t end) {
        const FlushToZero flush;
        float *dh = d_hidden + e * floats, *dc = d_cell + e * floats, *d_error = d_errors + e * outputs;
        float *into_input = d_from_input + e * GATES, *into_bias = d_bias + e * GATES;
        float *into_error = d_from_error + e * GATES, *into_weight = d_weight + e * N * GATES;
        if (begin == 0) {
            for (float* into : {into_input, into_bias, into_error}) std::fill_n(into, GATES, 0.0f);
            std::fill_n(into_weight, N * GATES, 0.0f);
            std::fill_n(d_head + e * N, N, 0.0f);
            d_head_bias[e] = 0.0f;
        }
        std::vector<float> above(outputs * GATES), d_above(outputs * GATES);
        std::vector<float> d_logits(outputs), d_means(outputs * N);
        alignas(64) Gates of_block = {};
        Backward block;
        for (int64_t back = begin; back < end; ++back) {  // from the last step
            const int64_t step = (steps - 1 - back) * lifetimes + e;
            const float *logit = logits + step * outputs, *mean = mean_tape + step * outputs * N;
            // through the error, softmax(logits) - onehot, and the logits' own gradient
            float largest = -INFINITY, total = 0.0f, weighted = 0.0f;
            for (int64_t b = 0; b < outputs; ++b) largest = std::max(largest, logit[b]);
            for (int64_t b = 0; b < outputs; ++b)
                total += d_logits[b] = std::exp(logit[b] - largest);
            for (int64_t b = 0; b < outputs; ++b) weighted += (d_logits[b] /= total) * d_error[b];
            for (int64_t b = 0; b < outputs; ++b) {
                const float bounded = logit[b] / LOGIT_BOUND;
                const float d_logit =
                    grad_logits[step * outputs + b] + d_logits[b] * (d_error[b] - weighted);
                const float d_z = d_logit * (1.0f - bounded * bounded);
                d_head_bias[e] += d_z;
                for (int n = 0; n < N; ++n) {
                    d_head[e * N + n] += d_z * mean[b * N + n];
                    d_means[b * N + n] = d_z * head[n] / size;
                }
            }
            // through the sub-RNNs
            const float *error = error_tape + step * outputs, *x = inputs + step * size;
            shares.above(error, outputs, above.data());
            std::fill(d_above.begin(), d_above.end(), 0.0f);
            over_blocks(size, outputs, [&](const Place& place) {
                shares.fill(x, above.data(), place, outputs, of_block);
                const int64_t at = place.first * N;
                block.kept[0].before.read(hidden_tape + step * floats + at,
                                          cell_tape + step * floats + at, place.rows);
                block.gradients.read(dh + at, dc + at, place.rows);
                place.over_rows(outputs, [&](int row, int64_t, int64_t b) {
                    for (int n = 0; n < N; n += LANES)
                        add(block.gradients.hidden[row] + n, load(d_means.data() + b * N + n));
                });
                block.run(static_cast<int>(ticks), scaled, weight_transposed, of_block, into_weight);
                block.gradients.write(dh + at, dc + at, place.rows);
                place.over_rows(outputs, [&](int row, int64_t a, int64_t b) {
                    for (int i = 0; i < GATES; i += LANES) {
                        const Vector gradient = load(block.d_shares[row] + i);
                        add(into_input + i, x[a] * gradient);
                        add(d_above.data() + b * GATES + i, gradient);
                    }
                });
            });
            for (int64_t b = 0; b < outputs; ++b) {
                Vector products = {};
                for (int at = 0; at < GATES; at += LANES) {
                    const Vector gradient = load(d_above.data() + b * GATES + at);
                    add(into_bias + at, gradient);
                    add(into_error + at, error[b] * gradient);
                    products += load(from_error + at) * gradient;
                }
                d_error[b] = 0.0f;
                for (int lane = 0; lane < LANES; ++lane) d_error[b] += products[lane];
            }
        }
    });
}
