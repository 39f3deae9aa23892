// What the fake driver and the kernels translated from PTX (ptx.py) have in common.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

struct Block;

// A thread of a GPU. The threads of a block take turns on one thread of the host.
struct Thread {
    uint32_t index[3];
    uint32_t lane, warp;
    void* stack;
    bool done;
    // it goes on when this is no longer that
    uint64_t* waits;
    uint64_t seen;
    // the stack of whoever gives turns
    void** home;
    Block* block;
};

// What the blocks of a launch have in common.
struct Launch {
    uint32_t grid[3], size[3];
    uint32_t threads, dynamic_shared;
    void** parameters;
};

struct Block : Launch {
    uint32_t index[3];
    char* shared;
    // gives the turn to others until all threads, or all of the warp, are here; or once
    void (*barrier)(Thread*);
    void (*warp_barrier)(Thread*);
    void (*yield)(Thread*);
    // what the lanes of a warp show each other
    uint64_t slots[32][32];
    uint32_t fragments[32][32][32];
    // what a warp's last product came to, and which turn of its barrier that was
    float products[32][16][8];
    uint64_t multiplied[32];
    uint32_t arrived, alive, warp_arrived[32], warp_alive[32];
    // grow with whatever lets a waiting thread go on: a block in which they stay is stuck
    uint64_t generation, warp_generation[32], progress;
    // held by an atomic operation: blocks run side by side
    int* lock;
};

template <class T, class R> static inline T as(R raw) {
    T value{};
    memcpy(&value, &raw, sizeof(T) < sizeof(R) ? sizeof(T) : sizeof(R));
    return value;
}
static inline float f32(uint32_t bits) { return as<float>(bits); }
static inline double f64(uint64_t bits) { return as<double>(bits); }
static inline uint32_t bits(float x) { return as<uint32_t>(x); }
static inline uint64_t bits(double x) { return as<uint64_t>(x); }
template <class T> static inline T load(const void* address) {
    T value;
    memcpy(&value, address, sizeof(T));
    return value;
}
template <class T> static inline void store(void* address, T value) { memcpy(address, &value, sizeof(T)); }

static inline float from_bf16(uint16_t x) { return f32((uint32_t)x << 16); }
static inline uint16_t to_bf16(float x) {
    uint32_t b = bits(x);
    if ((b & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (b + 0x7fff + ((b >> 16) & 1)) >> 16;
}
static inline float from_f16(uint16_t x) { return (float)as<_Float16>(x); }
static inline uint16_t to_f16(float x) { return as<uint16_t>((_Float16)x); }
static inline float from_tf32(uint32_t x) { return f32(x & 0xffffe000u); }
static inline uint32_t to_tf32(float x) { return (bits(x) + 0x1000) & 0xffffe000u; }

template <class T> static inline T shift_left(T a, uint32_t by) { return by >= sizeof(T) * 8 ? 0 : (T)(a << by); }
template <class T> static inline T shift_right(T a, uint32_t by) {
    if (by >= sizeof(T) * 8) return a < 0 ? (T)-1 : (T)0;
    return (T)(a >> by);
}
static inline uint64_t high_u64(uint64_t a, uint64_t b) { return (uint64_t)(((unsigned __int128)a * b) >> 64); }
static inline int64_t high_s64(int64_t a, int64_t b) { return (int64_t)(((__int128)a * b) >> 64); }
static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    uint64_t both = ((uint64_t)b << 32) | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t choice = (selector >> (4 * i)) & 15;
        uint8_t byte = (both >> (8 * (choice & 7))) & 255;
        if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= (uint32_t)byte << (8 * i);
    }
    return result;
}
static inline uint32_t logic3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t result = 0;
    for (int i = 0; i < 8; i++)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
static inline uint32_t extract_u32(uint32_t a, uint32_t position, uint32_t length) {
    position &= 255, length &= 255;
    if (length == 0 || position >= 32) return 0;
    return length >= 32 ? a >> position : (a >> position) & ((1u << length) - 1);
}
template <class T> static inline T insert(T from, T into, uint32_t position, uint32_t length) {
    uint32_t width = sizeof(T) * 8;
    T mask = (length >= width ? ~(T)0 : (((T)1 << length) - 1)) << (position & (width - 1));
    return ((from << (position & (width - 1))) & mask) | (into & ~mask);
}
static inline uint32_t reverse(uint32_t a) {
    uint32_t result = 0;
    for (int i = 0; i < 32; i++) result |= ((a >> i) & 1) << (31 - i);
    return result;
}
template <class F> static inline F least(F a, F b) {
    if (a != a) return b;
    if (b != b) return a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
}
template <class F> static inline F most(F a, F b) {
    if (a != a) return b;
    if (b != b) return a;
    return a > b || (a == b && !std::signbit(a)) ? a : b;
}
// as precise as the instruction
static inline float approximate_tanh(float x) { return f32((bits(tanhf(x)) + 0x1000) & ~0x1fffu); }
// saturating, and 0 for what is not a number
template <class I, class F> static inline I to_integer(F x) {
    if (x != x) return 0;
    constexpr bool is_signed = (I)-1 < (I)0;
    const uint64_t half = (uint64_t)1 << (sizeof(I) * 8 - 1);
    const long double low = is_signed ? -(long double)half : 0;
    const long double high = is_signed ? (long double)(half - 1) : (long double)(I)-1;
    if ((long double)x <= low) return (I)low;
    if ((long double)x >= high) return is_signed ? (I)(half - 1) : (I)-1;
    return (I)x;
}

// A barrier in shared memory that threads and copies arrive at: 8 bytes.
struct Mbarrier {
    uint64_t phase : 1, expected : 20, pending : 20;
    int64_t bytes : 23;
};
static inline void settle(Thread* t, Mbarrier* barrier) {
    if (barrier->pending == 0 && barrier->bytes == 0) {
        barrier->phase ^= 1;
        barrier->pending = barrier->expected;
    }
    t->block->progress++;
}
static inline uint64_t arrive(Thread* t, void* at, int64_t expected_bytes) {
    auto* barrier = (Mbarrier*)at;
    uint64_t phase = barrier->phase;
    barrier->bytes += expected_bytes;
    barrier->pending--;
    settle(t, barrier);
    return phase;
}
// whether the phase is over; others take their turn before the thread asks again
static inline bool is_over(Thread* t, void* at, uint64_t phase) {
    if (((Mbarrier*)at)->phase != (phase & 1)) return true;
    t->block->yield(t);
    return ((Mbarrier*)at)->phase != (phase & 1);
}

// What the fake driver encodes in the 128 bytes of a tensor map.
struct TensorMap {
    char* base;
    uint32_t rank, element;
    uint64_t sizes[5], strides[5];
    uint16_t box[5], swizzle;
};
// Copies a box into shared memory, with zeros for what is outside of the tensor, and arrives with its bytes.
static inline void copy_box(Thread* t, uint32_t to, const TensorMap* map, const int32_t* corner, void* barrier) {
    uint32_t count = 1;
    for (uint32_t d = 0; d < map->rank; d++) count *= map->box[d];
    // 16-byte pieces are swapped within rows of 32, 64 or 128 bytes
    const uint32_t swapped[] = {0, 1, 3, 7};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rest = i;
        int64_t offset = 0;
        bool inside = true;
        for (uint32_t d = 0; d < map->rank; d++) {
            int64_t place = (int64_t)corner[d] + rest % map->box[d];
            rest /= map->box[d];
            inside &= place >= 0 && place < (int64_t)map->sizes[d];
            offset += place * (int64_t)map->strides[d];
        }
        uint32_t address = to + i * map->element;
        address ^= ((address >> 7) & swapped[map->swizzle]) << 4;
        if (inside) memcpy(t->block->shared + address, map->base + offset, map->element);
        else memset(t->block->shared + address, 0, map->element);
    }
    ((Mbarrier*)barrier)->bytes -= (int64_t)count * map->element;
    settle(t, (Mbarrier*)barrier);
}

// The shared rows of 8 x 8 matrices of 16 bits that the lanes name, spread over the warp as `mma` reads them.
static inline void load_matrices(Thread* t, const char* row, uint32_t count, bool transposed, uint32_t* out) {
    uint64_t* rows = t->block->slots[t->warp];
    rows[t->lane] = (uint64_t)(uintptr_t)row;
    t->block->warp_barrier(t);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t high = t->lane / 4, low = t->lane % 4;
        auto element = [&](uint32_t row, uint32_t column) {
            return (uint32_t)load<uint16_t>((const char*)(uintptr_t)rows[8 * i + row] + 2 * column);
        };
        out[i] = transposed ? element(2 * low, high) | element(2 * low + 1, high) << 16
                            : element(high, 2 * low) | element(high, 2 * low + 1) << 16;
    }
    t->block->warp_barrier(t);
}

enum Kind { BF16, F16, TF32 };

// `d = a b + c` of a warp: 16 x K by K x 8, the parts of a lane as the PTX manual lays them out. The first lane that has
// the parts of all computes for all.
template <int K, Kind KIND>
__attribute__((noinline, optimize("O3"))) static void multiply_all(const uint32_t (*parts)[32], float (*d)[8]) {
    constexpr int PER = KIND == TF32 ? 1 : 2, HALF = 4 * PER;
    float a[16][K], b[K][8];
    auto element = [&](uint32_t line, uint32_t k, uint32_t part) {
        uint32_t word = parts[line * 4 + k % HALF / PER][part];
        if (KIND == TF32) return from_tf32(word);
        uint16_t half = word >> 16 * (k % 2);
        return KIND == BF16 ? from_bf16(half) : from_f16(half);
    };
    for (uint32_t k = 0; k < K; k++) {
        for (uint32_t row = 0; row < 16; row++) a[row][k] = element(row % 8, k, row / 8 + 2 * (k / HALF));
        for (uint32_t column = 0; column < 8; column++) b[k][column] = element(column, k, 16 + k / HALF);
    }
    for (uint32_t row = 0; row < 16; row++) {
        float sum[8];
        for (uint32_t j = 0; j < 8; j++) sum[j] = f32(parts[row % 8 * 4 + j / 2][24 + row / 8 * 2 + j % 2]);
        for (uint32_t k = 0; k < K; k++)
            for (uint32_t j = 0; j < 8; j++) sum[j] += a[row][k] * b[k][j];
        for (uint32_t j = 0; j < 8; j++) d[row][j] = sum[j];
    }
}
template <int K, Kind KIND>
static inline void multiply(Thread* t, const uint32_t* a, const uint32_t* b, const float* c, float* d) {
    constexpr int HALF = KIND == TF32 ? 4 : 8, A = K / HALF * 2, B = K / HALF;
    Block* block = t->block;
    auto& parts = block->fragments[t->warp];
    for (int i = 0; i < A; i++) parts[t->lane][i] = a[i];
    for (int i = 0; i < B; i++) parts[t->lane][16 + i] = b[i];
    for (int i = 0; i < 4; i++) parts[t->lane][24 + i] = bits(c[i]);
    block->warp_barrier(t);
    // nobody passes the next barrier before all have read
    auto& products = block->products[t->warp];
    if (block->multiplied[t->warp] != block->warp_generation[t->warp]) {
        block->multiplied[t->warp] = block->warp_generation[t->warp];
        multiply_all<K, KIND>(parts, products);
    }
    for (uint32_t i = 0; i < 4; i++) d[i] = products[t->lane / 4 + 8 * (i / 2)][t->lane % 4 * 2 + i % 2];
}
