// Vectors of floats as this machine has them, how many of them a block of sub-RNNs takes at a time, and
// the arithmetic that compilers do not find by themselves.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __SSE__
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))
// A loop that GCC is to compile by itself: with its neighbours in one function it finds worse code.
#define LOOP static __attribute__((noinline))
// Before a loop over vectors that are to stay in registers.
#define UNROLLED _Pragma("GCC unroll 16")
// A step that V vectors take together, for one alone would wait for its last result at each.
#define EACH UNROLLED for (int v = 0; v < V; ++v)

constexpr int N = 16;
constexpr int GATES = 4 * N;

// The machine's own vectors: GCC passes wider ones through memory. A block has ROWS sub-RNNs, which
// take each step together. Of its gates TILE_ROWS by TILE_COLUMNS vectors are summed up at a time, as
// many as fit the registers. POWERS vectors are raised at a time, and UPDATES vectors of states updated.
#if defined(__AVX512DQ__)
constexpr int LANES = 16, ROWS = 8, TILE_ROWS = 4, TILE_COLUMNS = 4, POWERS = 8, UPDATES = 4;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 15, TILE_ROWS = 5, TILE_COLUMNS = 2, POWERS = 4, UPDATES = 1;
#else
constexpr int LANES = 4, ROWS = 15, TILE_ROWS = 5, TILE_COLUMNS = 2, POWERS = 4, UPDATES = 1;
#endif
constexpr int PARTS = N / LANES;  // vectors of a state
static_assert(ROWS % TILE_ROWS == 0 && GATES % (TILE_COLUMNS * LANES) == 0);
static_assert(ROWS * N % (UPDATES * LANES) == 0);
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

// Keeps GCC on x86 from making one instruction of what yields x and what becomes of it.
INLINE Vector apart(Vector x) {
#ifdef __SSE__
    asm("" : "+x"(x));
#endif
    return x;
}

// Not by x86's `rep movs`, which takes longer for so few numbers.
INLINE void copy(const float* from, int count, float* to) {
    for (int i = 0; i < count; i += LANES) store(to + i, apart(load(from + i)));
}

// sum += x w. In assembly, for GCC keeps fewer sums in registers than there is room for.
INLINE void add_product(Vector& sum, const Vector& x, const Vector& w) {
#if defined(__FMA__) && !defined(__AVX512DQ__)
    asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
#else
    sum += x * w;
#endif
}
INLINE Vector broadcast(const float& x) {
#if defined(__FMA__) && !defined(__AVX512DQ__)
    Vector result;
    asm volatile("vbroadcastss %1, %0" : "=x"(result) : "m"(x));
    return result;
#else
    return all(x);
#endif
}

// min(x, 40): products of three terms 1 + 2^40 cannot overflow. And max(x, -40), below which 1 + 2^x
// is 1. Both keep NaN: the second operand is returned where either is NaN.
INLINE Vector at_most_40(const Vector& x) {
    const Vector high = all(40.0f);
#if defined(__AVX512DQ__)
    return (Vector)_mm512_min_ps((__m512)high, (__m512)x);
#elif defined(__AVX__)
    return (Vector)_mm256_min_ps((__m256)high, (__m256)x);
#else
    return x > high ? high : x;
#endif
}
#ifndef __AVX512DQ__
INLINE Vector at_least_minus_40(const Vector& x) {
    const Vector low = all(-40.0f);
#ifdef __AVX__
    return (Vector)_mm256_max_ps((__m256)low, (__m256)x);
#else
    return x < low ? low : x;
#endif
}
#endif

// V vectors of y into 2^min(y, 40) = 2^n 2^r, 2^r by the polynomial of degree 5 that is 1 at 0 and of
// the least relative error among these, 1e-7.
template <int V>
INLINE void raise_side_by_side(float* at) {
    Vector y[V], p[V], r[V];
    EACH y[v] = at_most_40(load(at + v * LANES));
#ifdef __AVX512DQ__  // n rounded down
    EACH r[v] = (Vector)_mm512_reduce_ps((__m512)y[v], _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    EACH p[v] = r[v] * 1.86713e-3f + 9.017031e-3f;
    EACH p[v] = p[v] * r[v] + 5.5799913e-2f;
    EACH p[v] = p[v] * r[v] + 2.4016444e-1f;
    EACH p[v] = p[v] * r[v] + 6.931513e-1f;
    EACH p[v] = p[v] * r[v] + 1.0f;
    EACH store(at + v * LANES, (Vector)_mm512_scalef_ps((__m512)p[v], (__m512)y[v]));
#else  // n the nearest integer
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds, and leaves n in the lowest bits
    EACH y[v] = at_least_minus_40(y[v]);
    EACH r[v] = y[v] + round;
    EACH store(at + v * LANES, r[v]);
    EACH r[v] = y[v] - (r[v] - round);
    EACH p[v] = r[v] * 1.32647273e-3f + 9.67151299e-3f;
    EACH p[v] = p[v] * r[v] + 5.55073358e-2f;
    EACH p[v] = p[v] * r[v] + 2.40222424e-1f;
    EACH p[v] = p[v] * r[v] + 6.93147004e-1f;
    EACH p[v] = p[v] * r[v] + 1.0f;
    EACH {
        const Bits exponent = (Bits)load(at + v * LANES) << 23;
        store(at + v * LANES, (Vector)((Bits)p[v] + exponent));
    }
#endif
}

// SIZE numbers y into 2^min(y, 40).
template <int SIZE>
INLINE void raise(float* at) {
    constexpr int STEP = POWERS * LANES, REST = SIZE % STEP / LANES;
#pragma GCC unroll 1
    for (int i = 0; i + STEP <= SIZE; i += STEP) raise_side_by_side<POWERS>(at + i);
    if constexpr (REST > 0) raise_side_by_side<REST>(at + SIZE - REST * LANES);
}

// x[v] / y[v] into x.
template <int V>
INLINE void divide(Vector* x, const Vector* y) {
#ifdef __AVX512DQ__
    Vector guess[V], correction[V];
    EACH guess[v] = (Vector)_mm512_rcp14_ps((__m512)y[v]);
    EACH x[v] *= guess[v];
    EACH correction[v] = 2.0f - y[v] * guess[v];
    EACH x[v] *= correction[v];
#else
    EACH x[v] /= y[v];
#endif
}

// While one is alive, its thread takes numbers below 1.2e-38 for zero on x86: they would take a
// hundred times as long.
class [[maybe_unused]] FlushToZero {
#ifdef __SSE__
    static constexpr unsigned FLUSH = 0x8040;  // results, and what is read
    const unsigned before = _mm_getcsr();

public:
    FlushToZero() { _mm_setcsr(before | FLUSH); }
    ~FlushToZero() { _mm_setcsr(before); }
#endif
};

// One number for each unit, or each gate, of a block.
typedef float Units[ROWS][N];
typedef float Gates[ROWS][GATES];

INLINE const Units& as_units(const float* at) { return *reinterpret_cast<const Units*>(at); }
INLINE Units& as_units(float* at) { return *reinterpret_cast<Units*>(at); }

// Copies `rows` rows of states into a block, and zeros below them; and out of it.
INLINE void read(const float* from, int rows, Units& to) {
    copy(from, rows * N, to[0]);
    for (int i = rows * N; i < ROWS * N; i += LANES) store(to[0] + i, Vector{});
}
INLINE void write(const Units& from, int rows, float* to) { copy(from[0], rows * N, to); }
