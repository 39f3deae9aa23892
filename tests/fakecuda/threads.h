// Runs the threads of a block: one after the other where they do not wait for each other, else by turns, each on
// a stack of its own.
#pragma once
#include "kernel.h"
#include <sys/mman.h>
#include <vector>

typedef void (*Body)(Thread*);

// Saves what the callee must keep, and goes on from another stack.
asm(R"(
.text
.globl fake_switch
.hidden fake_switch
fake_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void fake_switch(void** from, void* to);

// A thread of the host.
struct Worker {
    static constexpr size_t STACK = 128 << 10, MOST = 1024;
    std::vector<Thread> threads = std::vector<Thread>(MOST);
    std::vector<char> shared;
    void* stack = nullptr;
    char* stacks = nullptr;
    Body body = nullptr;
    Thread* starting = nullptr;
    ~Worker() {
        if (stacks) munmap(stacks, STACK * MOST);
    }
    void make_stacks() {
        if (stacks) return;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks = (char*)mmap(nullptr, STACK * MOST, PROT_READ | PROT_WRITE, flags, -1, 0);
    }
};
static thread_local Worker worker;

static void yield_turn(Thread* t) { fake_switch(&t->stack, *t->home); }

static void wait_for(Thread* t, uint32_t& arrived, uint32_t alive, uint64_t& generation) {
    uint64_t now = generation;
    if (++arrived == alive) {
        arrived = 0;
        generation++;
    } else {
        t->waits = &generation, t->seen = now;
        yield_turn(t);
    }
}
static void block_barrier(Thread* t) {
    Block* b = t->block;
    wait_for(t, b->arrived, b->alive, b->generation);
}
static void warp_barrier(Thread* t) {
    Block* b = t->block;
    wait_for(t, b->warp_arrived[t->warp], b->warp_alive[t->warp], b->warp_generation[t->warp]);
}

// One thread less: those that wait for it do so no longer.
static void leave(uint32_t& arrived, uint32_t& alive, uint64_t& generation) {
    if (--alive > 0 && arrived == alive) {
        arrived = 0;
        generation++;
    }
}
static void enter() {
    Thread* t = worker.starting;
    worker.body(t);
    Block* b = t->block;
    t->done = true;
    leave(b->arrived, b->alive, b->generation);
    leave(b->warp_arrived[t->warp], b->warp_alive[t->warp], b->warp_generation[t->warp]);
    for (;;) yield_turn(t);
}

// Runs a block of a kernel; false if its threads wait for each other forever.
static bool run_block(Body body, bool waits, Block& b) {
    worker.body = body;
    for (uint32_t i = 0; i < b.threads; i++) {
        Thread& t = worker.threads[i];
        t.index[0] = i % b.size[0];
        t.index[1] = i / b.size[0] % b.size[1];
        t.index[2] = i / b.size[0] / b.size[1];
        t.lane = i % 32, t.warp = i / 32, t.done = false, t.waits = nullptr, t.home = &worker.stack;
        t.block = &b;
        if (!waits) body(&t);
    }
    if (!waits) return true;
    worker.make_stacks();
    b.arrived = 0, b.alive = b.threads, b.generation = 0;
    for (uint32_t w = 0; w < 32; w++) {
        b.warp_arrived[w] = 0, b.warp_generation[w] = 0;
        b.warp_alive[w] = b.threads <= 32 * w ? 0 : b.threads - 32 * w < 32 ? b.threads - 32 * w : 32;
    }
    for (uint32_t i = 0; i < b.threads; i++) {
        uintptr_t top = ((uintptr_t)worker.stacks + Worker::STACK * (i + 1)) & ~63ull;
        void** stack = (void**)top;
        *--stack = nullptr;
        *--stack = (void*)enter;
        for (int saved = 0; saved < 6; saved++) *--stack = nullptr;
        worker.threads[i].stack = stack;
    }
    Worker& self = worker;
    while (b.alive) {
        bool stuck = true;
        for (uint32_t i = 0; i < b.threads; i++) {
            Thread& t = self.threads[i];
            if (t.done || (t.waits && *t.waits == t.seen)) continue;
            stuck = false, t.waits = nullptr, self.starting = &t;
            fake_switch(&self.stack, t.stack);
        }
        if (stuck) return false;
    }
    return true;
}
