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
    // gives the turn to others until all threads, or all of the warp, are here
    void (*barrier)(Thread*);
    void (*warp_barrier)(Thread*);
    // what the lanes of a warp show each other
    uint64_t slots[32][32];
    uint32_t arrived, alive, warp_arrived[32], warp_alive[32];
    // grow when those who wait go on
    uint64_t generation, warp_generation[32];
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
