"""What a step of a VSML network is made of, as functions that the Triton kernels call."""

from __future__ import annotations

import triton
import triton.language as tl

LOGIT_BOUND = tl.constexpr(100.0)
LARGEST_EXPONENT = tl.constexpr(41.0)  # products of three 1 + 2^y stay finite
TANH_EXPONENT = tl.constexpr(-2.8853900817779268)  # -2 log2(e)
BELOW_ALL_LOGITS = tl.constexpr(-1000.0)


@triton.jit
def _power(y):
    return tl.exp2(tl.minimum(y, LARGEST_EXPONENT, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def _inverse(x):
    """1 / x for 1 <= x < 2^126, in fewer instructions than a division."""
    root = tl.rsqrt(x)
    near = root * root
    return near * (2 - x * near)


@triton.jit
def _split(x):
    """(high, low) with x = high + low; high is x rounded to what a matrix unit reads."""
    high = ((x.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def _product(x, w, sums, MIXED: tl.constexpr):
    """Adds x w to the sums; with MIXED, of x and w in bfloat16."""
    if MIXED:
        return tl.dot(x.to(tl.bfloat16), w.to(tl.bfloat16), sums)
    x_high, x_low = _split(x)
    w_high, w_low = _split(w)
    sums = tl.dot(x_low, w_high, sums, input_precision="tf32")
    sums = tl.dot(x_high, w_low, sums, input_precision="tf32")
    return tl.dot(x_high, w_high, sums, input_precision="tf32")


@triton.jit
def _four(at, N: tl.constexpr):
    """What lies there for the gates i, g, f and o."""
    return tl.load(at), tl.load(at + N), tl.load(at + 2 * N), tl.load(at + 3 * N)


@triton.jit
def _above(error, bias, from_error):
    """What does not depend on the input of a row's share of the gates, each [ROWS, N]."""
    i = bias[0][None, :] + error[:, None] * from_error[0][None, :]
    g = bias[1][None, :] + error[:, None] * from_error[1][None, :]
    f = bias[2][None, :] + error[:, None] * from_error[2][None, :]
    o = bias[3][None, :] + error[:, None] * from_error[3][None, :]
    return i, g, f, o


@triton.jit
def _powers(h, x, above, from_input, weight, MIXED: tl.constexpr):
    """2^y of the gates, each [ROWS, N]."""
    i = _product(h, weight[0], x[:, None] * from_input[0][None, :] + above[0], MIXED)
    g = _product(h, weight[1], x[:, None] * from_input[1][None, :] + above[1], MIXED)
    f = _product(h, weight[2], x[:, None] * from_input[2][None, :] + above[2], MIXED)
    o = _product(h, weight[3], x[:, None] * from_input[3][None, :] + above[3], MIXED)
    return _power(i), _power(g), _power(f), _power(o)


@triton.jit
def _tick(h, c, x, above, from_input, weight, MIXED: tl.constexpr):
    """The new h and c, with two divisions for five sigmoids and tanhs."""
    i, g, f, o = _powers(h, x, above, from_input, weight, MIXED)
    both = 1 + g
    both += i * both
    new = 1 - g
    new += new * f
    new += c * both
    both += both * f
    c = new * _inverse(both)
    squashed = _power(c * TANH_EXPONENT)
    both = 1 + squashed
    both += both * o
    return (1 - squashed) * _inverse(both), c


@triton.jit
def _tile(tile, size, N: tl.constexpr, B: tl.constexpr, ROWS: tl.constexpr):
    """Of a tile's rows: their inputs [ROWS], which of them are sub-RNNs [ROWS], and where in a
    lifetime's states they are [ROWS, N]."""
    INPUTS: tl.constexpr = ROWS // B
    r = tl.arange(0, ROWS)
    a = tile * INPUTS + r // B
    live = (r < INPUTS * B) & (a < size)
    return a, live, (tile * (INPUTS * B) + r)[:, None] * N + tl.arange(0, N)[None, :]


@triton.jit
def _to_rows(values, r, B: tl.constexpr, B_PAD: tl.constexpr):
    """[B_PAD] of outputs to [ROWS]."""
    own = (r % B)[:, None] == tl.arange(0, B_PAD)[None, :]
    return tl.sum(tl.where(own, values[None, :], 0.0), axis=1)


@triton.jit
def _to_outputs(rows, r, B: tl.constexpr, B_PAD: tl.constexpr):
    """[ROWS] to sums [B_PAD] over the inputs."""
    own = (r % B)[:, None] == tl.arange(0, B_PAD)[None, :]
    return tl.sum(tl.where(own, rows[:, None], 0.0), axis=0)


@triton.jit
def _of_group(partials, programs, B_PAD: tl.constexpr, MOST: tl.constexpr):
    """Sums [B_PAD] of what the programs of a group, at most MOST, have left."""
    p = tl.arange(0, MOST)[:, None]
    at = partials + p * B_PAD + tl.arange(0, B_PAD)[None, :]
    return tl.sum(tl.load(at, mask=p < programs, other=0.0, cache_modifier=".cg"), axis=0)


@triton.jit
def _meet(arrived, all_of_them):
    """Waits until so many programs, over all meetings, have come here."""
    tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu")
    while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < all_of_them:
        pass


@triton.jit
def _tanh(x):
    """With a small relative error near 0 too."""
    square = x * x
    series = square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315)))
    return tl.where(square < 0.05, x + x * series, 2 / (1 + _power(x * TANH_EXPONENT)) - 1)


@triton.jit
def _softmax(logits, is_output):
    powers = tl.exp(logits - tl.max(tl.where(is_output, logits, BELOW_ALL_LOGITS)))
    powers = tl.where(is_output, powers, 0.0)
    return powers / tl.sum(powers)
