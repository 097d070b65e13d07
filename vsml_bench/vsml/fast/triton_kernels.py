"""Whole lifetimes of a VSML network with one dense layer, and their gradient, as Triton kernels for
CUDA GPUs; `cuda` calls them. What a step does is written in `lifetimes.cpp`.

A tile is the sub-RNNs of ROWS // B inputs: row r belongs to its input r // B and to output r % B.
Of a step, states alone are read and written. A lifetime is one program's, or shared by a group of
programs that take its tiles in turn. After a step these MEET, for which all must run at the same
time; without that, a launch must be of one step.

Shares and weights come in exponents, as in `sub_rnn.h`: sigmoid(z) = 1 / (1 + 2^y), y = -z log2(e).
Matrix units read 11 bits of a float32; products are therefore of numbers split in two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vsml_bench.vsml.fast.triton_steps import (
    LOGIT_BOUND,
    TANH_EXPONENT,
    _above,
    _four,
    _meet,
    _of_group,
    _power,
    _powers,
    _product,
    _softmax,
    _tanh,
    _tick,
    _tile,
    _to_outputs,
    _to_rows,
)

SCALARS = ["first", "last", "steps", "lifetimes", "size", "error_stride"]
"""Arguments whose values are not compiled for."""


@triton.jit(do_not_specialize=SCALARS)
def run_forward(
    inputs,  # [T, E, A]
    labels,  # [T, E]
    from_input,  # [4N] in exponents, as the next three
    bias,  # [4N]
    from_error,  # [4N]
    weight,  # [N, 4N]
    head,  # [N], divided by A
    head_bias,  # [1]
    hidden,  # [T + 1, E, A, B, N], or [1, ...] where new states take the place of the old
    cell,  # the same
    errors,  # [T + 1, E, B], or [1, ...]
    partials,  # [2, E, programs of a group, B_PAD]
    arrived,  # int32 [E], zeros
    logits,  # [T, E, B]
    first,
    last,
    steps,  # T
    lifetimes,  # E
    size,  # A
    state_stride,  # numbers from one step's states to the next one's, or 0
    error_stride,
    TICKS: tl.constexpr,
    N: tl.constexpr,
    B: tl.constexpr,
    B_PAD: tl.constexpr,
    ROWS: tl.constexpr,
    MOST: tl.constexpr,  # programs of a group
    MEET: tl.constexpr,
    MIXED: tl.constexpr,
):
    """Steps first to last - 1. Each begins with what the one before it left to do, its logits and
    its error; step T is that alone. Grid (E, programs of a group)."""
    e, program, programs = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    state_stride = state_stride.to(tl.int64)
    INPUTS: tl.constexpr = ROWS // B
    r, n, b = tl.arange(0, ROWS), tl.arange(0, N), tl.arange(0, B_PAD)
    is_output = b < B
    weights = _four(weight + n[:, None] * (4 * N) + n[None, :], N)
    of_input = _four(from_input + n, N)
    v = tl.load(head + n)
    for t in range(first, last):
        error = tl.load(errors + e * B + b, mask=is_output, other=0.0)
        if t > 0:
            before = partials + ((t - 1) % 2 * lifetimes + e) * (programs * B_PAD)
            z = _of_group(before, programs, B_PAD, MOST) + tl.load(head_bias)
            bounded = LOGIT_BOUND * _tanh(z / LOGIT_BOUND)
            step = (t - 1) * lifetimes + e
            error = _softmax(bounded, is_output) - (b == tl.load(labels + step)).to(tl.float32)
            if program == 0:
                tl.store(logits + step * B + b, bounded, mask=is_output)
        if program == 0:
            at_error = errors + t * error_stride + e * B
            tl.store(at_error + b, error, mask=is_output)
        if t < steps:
            of_row = _to_rows(error, r, B, B_PAD)
            above = _above(of_row, _four(bias + n, N), _four(from_error + n, N))
            step = t * lifetimes + e
            start = t * state_stride + e * size * (B * N)
            z_rows = tl.zeros((ROWS,), tl.float32)
            for tile in range(program, tl.cdiv(size, INPUTS), programs):
                a, live, at = _tile(tile, size, N, B, ROWS)
                mask = live[:, None]
                h = tl.load(hidden + start + at, mask=mask, other=0.0)
                c = tl.load(cell + start + at, mask=mask, other=0.0)
                x = tl.load(inputs + step * size + a, mask=live, other=0.0)
                for _ in tl.static_range(TICKS):
                    h, c = _tick(h, c, x, above, of_input, weights, MIXED)
                tl.store(hidden + start + state_stride + at, h, mask=mask)
                tl.store(cell + start + state_stride + at, c, mask=mask)
                z_rows += tl.where(live, tl.sum(h * v[None, :], axis=1), 0.0)
            now = partials + (t % 2 * lifetimes + e) * (programs * B_PAD) + program * B_PAD
            tl.store(now + b, _to_outputs(z_rows, r, B, B_PAD))
        tl.debug_barrier()  # other threads read what was written
        if MEET:
            _meet(arrived + e, (t + 1 - first) * programs)


@triton.jit
def _sigmoids(h, c, x, above, from_input, weight):
    """sigmoid(i), tanh(g), sigmoid(f), sigmoid(o), c' and tanh(c')."""
    i, g, f, o = _powers(h, x, above, from_input, weight, False)
    forget = 1 / (1 + f)
    input_gate = 1 / (1 + i)
    update = (1 - g) / (1 + g)
    new = forget * c + input_gate * update
    squashed = _power(new * TANH_EXPONENT)
    return input_gate, update, forget, 1 / (1 + o), new, (1 - squashed) / (1 + squashed)


@triton.jit
def _add_products(sums, left, i, g, f, o):
    """Adds left [N, ROWS] times each gate's gradient [ROWS, N] to its sums [N, N]."""
    i = _product(left, i, sums[0], False)
    g = _product(left, g, sums[1], False)
    f = _product(left, f, sums[2], False)
    o = _product(left, o, sums[3], False)
    return i, g, f, o


@triton.jit
def _store_four(at, values, N: tl.constexpr):
    tl.store(at, values[0])
    tl.store(at + N, values[1])
    tl.store(at + 2 * N, values[2])
    tl.store(at + 3 * N, values[3])


@triton.jit(do_not_specialize=SCALARS)
def run_backward(
    inputs,  # as above
    labels,
    from_input,  # [4N] in exponents, as the next three
    bias,
    from_error,
    weight,
    plain_weight,  # [N, 4N]
    plain_from_error,  # [4N]
    head,  # [N], divided by A
    hidden,  # [T + 1, E, A, B, N]
    cell,
    errors,  # [T + 1, E, B]
    logits,  # [T, E, B]
    into_logits,  # [T, E, B]: dL/dlogits
    into_hidden,  # [E, A, B, N]: dL/dh after the last step, in the end of that before the first
    into_cell,
    into_errors,  # [E, B]: dL/de after the last step
    partials,  # [2, E, programs of a group, B_PAD]: dL/de before a step
    arrived,  # int32 [E], zeros
    into_z,  # [T, E, B]
    into_weight,  # [E, programs, N, 4N]: to add to, as the next two
    into_shares,  # [E, programs, N, 4N]: rows 0 to 2 of input, bias and error
    into_head,  # [E, programs, N, N]: row 3
    first,
    last,
    steps,
    lifetimes,
    size,
    TICKS: tl.constexpr,
    N: tl.constexpr,
    B: tl.constexpr,
    B_PAD: tl.constexpr,
    ROWS: tl.constexpr,
    MOST: tl.constexpr,  # programs of a group
    MEET: tl.constexpr,
):
    """The gradient of `run_forward`, through the steps first to last - 1 counted from the end; of a
    tick, as `tick_backwards` in `sub_rnn.h`."""
    e, program, programs = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    INPUTS: tl.constexpr = ROWS // B
    r, n, b = tl.arange(0, ROWS), tl.arange(0, N), tl.arange(0, B_PAD)
    is_output = b < B
    square = n[:, None] * (4 * N) + n[None, :]
    weights = _four(weight + square, N)
    transposed = _four(plain_weight + n[None, :] * (4 * N) + n[:, None], N)
    of_input, to_error = _four(from_input + n, N), _four(plain_from_error + n, N)
    v = tl.load(head + n)
    own = (e * programs + program) * N
    d_weight = _four(into_weight + own * (4 * N) + square, N)
    d_shares = _four(into_shares + own * (4 * N) + square, N)
    at_head = into_head + own * N + n[:, None] * N + n[None, :]
    d_head = tl.load(at_head)
    for back in range(first, last):
        t = steps - 1 - back
        step = t * lifetimes + e
        # through the error and the logits
        d_error = tl.load(into_errors + e * B + b, mask=is_output, other=0.0)
        if back > 0:
            after = partials + ((back - 1) % 2 * lifetimes + e) * (programs * B_PAD)
            d_error = _of_group(after, programs, B_PAD, MOST)
        logit = tl.load(logits + step * B + b, mask=is_output, other=0.0)
        d_logit = tl.load(into_logits + step * B + b, mask=is_output, other=0.0)
        share = _softmax(logit, is_output)
        d_logit += share * (d_error - tl.sum(share * d_error))
        bounded = logit / LOGIT_BOUND
        d_z = d_logit * (1 - bounded * bounded)
        if program == 0:
            tl.store(into_z + step * B + b, d_z, mask=is_output)
        error = _to_rows(tl.load(errors + step * B + b, mask=is_output, other=0.0), r, B, B_PAD)
        d_z_rows = _to_rows(d_z, r, B, B_PAD)
        above = _above(error, _four(bias + n, N), _four(from_error + n, N))
        start = e * size * (B * N)
        before = step * size * (B * N)
        d_error_rows = tl.zeros((ROWS,), tl.float32)
        for tile in range(program, tl.cdiv(size, INPUTS), programs):
            a, live, at = _tile(tile, size, N, B, ROWS)
            mask = live[:, None]
            first_h = tl.load(hidden + before + at, mask=mask, other=0.0)
            first_c = tl.load(cell + before + at, mask=mask, other=0.0)
            x = tl.load(inputs + step * size + a, mask=live, other=0.0)
            d_z_live = tl.where(live, d_z_rows, 0.0)
            d_h = tl.load(into_hidden + start + at, mask=mask, other=0.0)
            d_h += d_z_live[:, None] * v[None, :]
            d_c = tl.load(into_cell + start + at, mask=mask, other=0.0)
            m = n[:, None]
            left = tl.where(m == 0, x[None, :], tl.where(m == 1, 1.0, 0.0))
            left = tl.where(m == 2, error[None, :], tl.where(m == 3, d_z_live[None, :], left))
            for earlier in tl.static_range(TICKS):
                h, c = first_h, first_c
                for _ in tl.static_range(TICKS - 1 - earlier):
                    h, c = _tick(h, c, x, above, of_input, weights, False)
                i, g, f, o, _, squashed = _sigmoids(h, c, x, above, of_input, weights)
                if earlier == 0:
                    d_head = _product(left, o * squashed, d_head, False)
                d_new = d_c + d_h * o * (1 - squashed * squashed)
                d_i = d_new * g * i * (1 - i)
                d_g = d_new * i * (1 - g * g)
                d_f = d_new * c * f * (1 - f)
                d_o = d_h * squashed * o * (1 - o)
                d_c = d_new * f
                d_h = _product(d_i, transposed[0], tl.zeros((ROWS, N), tl.float32), False)
                d_h = _product(d_g, transposed[1], d_h, False)
                d_h = _product(d_f, transposed[2], d_h, False)
                d_h = _product(d_o, transposed[3], d_h, False)
                d_weight = _add_products(d_weight, tl.trans(h), d_i, d_g, d_f, d_o)
                d_shares = _add_products(d_shares, left, d_i, d_g, d_f, d_o)
                d_above = d_i * to_error[0][None, :] + d_g * to_error[1][None, :]
                d_above += d_f * to_error[2][None, :] + d_o * to_error[3][None, :]
                d_error_rows += tl.sum(d_above, axis=1)
            tl.store(into_hidden + start + at, d_h, mask=mask)
            tl.store(into_cell + start + at, d_c, mask=mask)
        now = partials + (back % 2 * lifetimes + e) * (programs * B_PAD) + program * B_PAD
        tl.store(now + b, _to_outputs(d_error_rows, r, B, B_PAD))
        tl.debug_barrier()
        if MEET:
            _meet(arrived + e, (back + 1 - first) * programs)
    _store_four(into_weight + own * (4 * N) + square, d_weight, N)
    _store_four(into_shares + own * (4 * N) + square, d_shares, N)
    tl.store(at_head, d_head)
