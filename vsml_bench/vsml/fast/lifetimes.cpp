// Whole lifetimes of VSML networks with dense layers, and their gradient: threads take lifetimes for
// many steps at a time, through which a lifetime's state stays in one core's cache. A step is
//
//     up      each layer, from the first: its sub-RNNs see x on channel 0, or the messages of the layer
//             below, and the messages last sent down by the layer above; the last sees the message e
//     logits  L tanh(z / L), z the last layer's messages up, channel 1; L = 100
//     e       softmax(logits) - onehot(label) on channel 0, the label on channel 1 if it is fed
//     down    with a backward pass each layer, from the last, with e at the top; then e is 0
//
// Shapes, row-major: P members of a population, each with meta-parameters of its own [P, kinds, SubRNN],
// live E lifetimes of T steps on inputs [P or 1, T, E, A] and labels [P or 1, T, E]: where the first
// axis is 1, these are common to all members. Of each lifetime there are S floats of states h and c,
// those of all layers, F of messages from above and G of messages from below: see `Network`.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "network.h"

namespace {

constexpr float LOGIT_BOUND = 100.0f;
constexpr int64_t SPANS = 16;  // about so many for each thread

// Logits from the last layer's messages [B, M], and e [B, M].
void read_out(const Network& network, const float* messages, int64_t label, float* logits, float* top) {
    const int64_t outputs = network.outputs();
    float largest = -INFINITY, total = 0.0f;
    for (int64_t b = 0; b < outputs; ++b) {
        logits[b] = LOGIT_BOUND * std::tanh(messages[b * M + 1] / LOGIT_BOUND);
        largest = std::max(largest, logits[b]);
    }
    std::fill_n(top, outputs * M, 0.0f);
    for (int64_t b = 0; b < outputs; ++b) total += top[b * M] = std::exp(logits[b] - largest);
    for (int64_t b = 0; b < outputs; ++b) {
        top[b * M] = top[b * M] / total - (b == label);
        if (network.feed_label) top[b * M + 1] = b == label;
    }
}

// Its gradient: from dL/dlogits and dL/de to that of the messages, of which only channel 1 is not 0.
void read_out_backwards(const Network& network, const float* logits, const float* d_logits,
                        const float* d_top, float* d_messages) {
    const int64_t outputs = network.outputs();
    float largest = -INFINITY, total = 0.0f, weighted = 0.0f;
    std::vector<float> shares(outputs);  // softmax(logits)
    for (int64_t b = 0; b < outputs; ++b) largest = std::max(largest, logits[b]);
    for (int64_t b = 0; b < outputs; ++b) total += shares[b] = std::exp(logits[b] - largest);
    for (int64_t b = 0; b < outputs; ++b) weighted += (shares[b] /= total) * d_top[b * M];
    std::fill_n(d_messages, outputs * M, 0.0f);
    for (int64_t b = 0; b < outputs; ++b) {
        const float bounded = logits[b] / LOGIT_BOUND;
        const float d_logit = d_logits[b] + shares[b] * (d_top[b * M] - weighted);
        d_messages[b * M + 1] = d_logit * (1.0f - bounded * bounded);
    }
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

std::vector<Kind> kinds_of(const Network& network, const float* own) {
    const auto* first = reinterpret_cast<const SubRNN*>(own);
    return std::vector<Kind>(first, first + network.kinds);
}

// A lifetime's states on a tape [T x sweeps, E, S], h and c, before the sweep number `sweep`.
At on_tape(float* hidden, float* cell, int64_t sweep, int64_t lifetimes, int64_t e, int64_t states) {
    const int64_t at = (sweep * lifetimes + e) * states;
    return {hidden + at, cell + at};
}

}  // namespace

// hidden, cell: states to start from, [P or 1, E, S]; above: messages from above to start from, [P or
// 1, E, F]; where *_members is 1, all members start from the same. Fills logits [P, T, E, B], last_hidden,
// last_cell [P, E, S], last_above [P, E, F] and last_below [P, E, G], the messages from below in the
// last step. Where the tapes are not null (then P is 1), they get what the gradient needs: the
// states before each sweep [T x sweeps, E, S], and the messages in it [T x sweeps, E, F], [T, E, G].
extern "C" void vsml_lifetimes(
    int64_t threads, int64_t members, int64_t steps, int64_t lifetimes, int64_t input_members,
    int64_t state_members, int64_t above_members, const int64_t* numbers, const float* inputs,
    const int64_t* labels, const float* meta_parameters, const float* hidden, const float* cell,
    const float* above, float* logits, float* last_hidden, float* last_cell, float* last_above,
    float* last_below, float* hidden_tape, float* cell_tape, float* above_tape, float* below_tape) {
    const Network network(numbers);
    const int64_t sweeps = network.sweeps(), last = network.last(), outputs = network.outputs();
    const int64_t size = network.layers[0].inputs, states = network.states;
    const int64_t floats = network.kinds * (sizeof(SubRNN) / sizeof(float));
    over_spans(threads, members * lifetimes, steps, [&](int64_t life, int64_t begin, int64_t end) {
        const FlushToZero flush;
        const int64_t p = life / lifetimes, e = life % lifetimes;
        const std::vector<Kind> kinds = kinds_of(network, meta_parameters + p * floats);
        const int64_t examples = input_members == 1 ? 0 : p * steps;  // before the member's own
        Sweeper sweeper(network);
        float *from_above = last_above + life * network.above, *from_below = last_below + life * network.below;
        std::vector<float> top(outputs * M), answers(outputs * M);
        // The states before a sweep are on its tape, if there is one.
        const auto states_before = [&](int64_t sweep) -> At {
            if (hidden_tape && sweep < steps * sweeps)
                return on_tape(hidden_tape, cell_tape, sweep, lifetimes, e, states);
            return {last_hidden + life * states, last_cell + life * states};
        };
        const auto keep = [&](const float* now, int64_t count, float* tape, int64_t at) {
            if (tape) std::copy_n(now, count, tape + (at * lifetimes + e) * count);
        };
        if (begin == 0) {
            const int64_t from = state_members == 1 ? e : life;
            std::copy_n(hidden + from * states, states, states_before(0).hidden);
            std::copy_n(cell + from * states, states, states_before(0).cell);
            std::copy_n(above + (above_members == 1 ? e : life) * network.above, network.above, from_above);
        }
        for (int64_t t = begin; t < end; ++t) {
            const int64_t example = (examples + t) * lifetimes + e;
            const float* x = inputs + example * size;
            const auto layer_at = [&](int64_t l, int64_t sweep, bool down, float* up_to, float* down_to) {
                const Layer& layer = network.layers[l];
                const Kind& kind = kinds[network.kind[down][l]];
                const At before = states_before(sweep) + layer.states;
                const At after = states_before(sweep + 1) + layer.states;
                const float* seen_above = from_above + layer.above;
                if (l == 0)
                    sweeper.sweep<true>(kind, layer, x, seen_above, before, after, up_to, nullptr);
                else
                    sweeper.sweep<false>(kind, layer, from_below + layer.below, seen_above, before, after,
                                         up_to, down_to);
            };
            const auto sent_down_by = [&](int64_t l) {
                return l > 0 ? from_above + network.layers[l - 1].above : nullptr;
            };
            keep(from_above, network.above, above_tape, t * sweeps);
            for (int64_t l = 0; l <= last; ++l)
                layer_at(l, t * sweeps, false,
                         l < last ? from_below + network.layers[l + 1].below : answers.data(),
                         network.backward_pass ? nullptr : sent_down_by(l));
            keep(from_below, network.below, below_tape, t);
            float* top_now = from_above + network.layers[last].above;
            read_out(network, answers.data(), labels[example],
                     logits + ((p * steps + t) * lifetimes + e) * outputs, top_now);
            if (!network.backward_pass) continue;
            for (int64_t l = last; l >= 0; --l)
                layer_at(l, t * sweeps + 1, true, nullptr, sent_down_by(l));
            keep(from_above, network.above, above_tape, t * sweeps + 1);
            std::fill_n(top_now, outputs * M, 0.0f);  // the error has been delivered
        }
    });
}

// The gradient of vsml_lifetimes for one member: from dL/dlogits [T, E, B], of the last states, in
// d_hidden and d_cell [E, S], of the last messages from above, in d_above [E, F], and from below, in
// d_below [E, G], to those of the first ones, in the same places; d_below is left in use. Fills, for each lifetime, the
// gradients of the meta-parameters [E, kinds, SubRNN].
extern "C" void vsml_lifetimes_backward(
    int64_t threads, int64_t steps, int64_t lifetimes, const int64_t* numbers, const float* inputs,
    const float* meta_parameters, const float* logits, float* hidden_tape, float* cell_tape,
    const float* above_tape, const float* below_tape, const float* grad_logits, float* d_hidden,
    float* d_cell, float* d_above, float* d_below, float* d_meta_parameters) {
    const Network network(numbers);
    const std::vector<Kind> kinds = kinds_of(network, meta_parameters);
    const int64_t sweeps = network.sweeps(), last = network.last(), outputs = network.outputs();
    const int64_t size = network.layers[0].inputs, states = network.states;
    over_spans(threads, lifetimes, steps, [&](int64_t e, int64_t begin, int64_t end) {
        const FlushToZero flush;
        SubRNN* into = reinterpret_cast<SubRNN*>(d_meta_parameters) + e * network.kinds;
        if (begin == 0) std::memset(static_cast<void*>(into), 0, network.kinds * sizeof(SubRNN));
        Sweeper sweeper(network);
        float *into_above = d_above + e * network.above, *into_below = d_below + e * network.below;
        const At d_states{d_hidden + e * states, d_cell + e * states};
        std::vector<float> d_answers(outputs * M), d_seen(network.above);
        for (int64_t back = begin; back < end; ++back) {  // from the last step
            const int64_t t = steps - 1 - back, step = t * lifetimes + e;
            // d_up, d_down: of what the layer sent; d_from_above: of what came from above
            const auto layer_at = [&](int64_t l, int64_t sweep, bool down, const float* d_up,
                                      const float* d_down, float* d_from_above) {
                const Layer& layer = network.layers[l];
                const int64_t kind = network.kind[down][l];
                const float* above = above_tape + (sweep * lifetimes + e) * network.above + layer.above;
                const At before = on_tape(hidden_tape, cell_tape, sweep, lifetimes, e, states) + layer.states;
                if (l == 0)
                    sweeper.sweep_backwards<true>(kinds[kind], layer, inputs + step * size, above, before,
                                                  d_states + layer.states, d_up, nullptr, nullptr,
                                                  d_from_above, into[kind]);
                else
                    sweeper.sweep_backwards<false>(
                        kinds[kind], layer, below_tape + step * network.below + layer.below, above, before,
                        d_states + layer.states, d_up, d_down, into_below + layer.below, d_from_above,
                        into[kind]);
            };
            const auto above_of = [&](int64_t l) { return into_above + network.layers[l].above; };
            float* d_top = above_of(last);
            if (network.backward_pass) {
                std::fill_n(d_top, outputs * M, 0.0f);  // it was put to 0
                for (int64_t l = 0; l <= last; ++l)
                    layer_at(l, t * sweeps + 1, true, nullptr, l > 0 ? above_of(l - 1) : nullptr, above_of(l));
            }
            read_out_backwards(network, logits + step * outputs, grad_logits + step * outputs, d_top,
                               d_answers.data());
            // what was seen from above was replaced by what was sent down, or by e
            std::fill(d_seen.begin(), d_seen.end(), 0.0f);
            for (int64_t l = last; l >= 0; --l)
                layer_at(l, t * sweeps, false,
                         l < last ? into_below + network.layers[l + 1].below : d_answers.data(),
                         l > 0 && !network.backward_pass ? above_of(l - 1) : nullptr,
                         d_seen.data() + network.layers[l].above);
            std::copy(d_seen.begin(), d_seen.end(), into_above);
            std::fill_n(into_below, network.below, 0.0f);
        }
    });
}
