#include "tests/cuda_on_host.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <ucontext.h>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

/* The address sanitizer must be told of other stacks. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
#define FAST_SWITCH 1
extern "C" void switch_stacks(void **leave, void *enter);
asm(R"(
.text
.type switch_stacks, @function
switch_stacks:
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
.size switch_stacks, .-switch_stacks
)");
#else
#define FAST_SWITCH 0
#endif

namespace
{

constexpr int LANES = 32;
constexpr size_t STACK_BYTES = 128 << 10;

struct Warp {
    int live, arrived;
    uint64_t generation;
    uint64_t value[2][LANES]; /* a lane is at most one exchange ahead of another */
};

/* ---- switching between stacks ---- */

#if FAST_SWITCH

/* A hundred times faster than swapcontext, which asks the kernel for the signal mask: only what a call
 * preserves is kept, on the stack that is left. */
struct Context {
    void *stack;
    const void *bottom; /* of its memory; of the scheduler's known once it was left */
    size_t bytes;
};

/* In a context that was just entered: where it came from was the scheduler, or a fibre. */
void arrive([[maybe_unused]] void *fake, [[maybe_unused]] Context *from)
{
#ifdef SANITIZED
    __sanitizer_finish_switch_fiber(fake, &from->bottom, &from->bytes);
#endif
}

void switch_context(Context *leave, Context *enter)
{
    void *fake = nullptr;
#ifdef SANITIZED
    __sanitizer_start_switch_fiber(&fake, enter->bottom, enter->bytes);
#endif
    switch_stacks(&leave->stack, enter->stack);
    Context from;
    arrive(fake, &from);
}

void make_context(Context *context, char *stack, size_t bytes, void (*begin)())
{
#ifdef SANITIZED
    __asan_unpoison_memory_region(stack, bytes); /* what an earlier fibre left there */
#endif
    /* As a call would find it: the stack is 8 bytes off a multiple of 16, and nobody to return to. */
    auto **top = reinterpret_cast<void **>((reinterpret_cast<uintptr_t>(stack) + bytes) / 16 * 16);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(begin);
    for (int i = 0; i < 6; ++i)
        *--top = nullptr;
    context->stack = top;
    context->bottom = stack;
    context->bytes = bytes;
}

#else

typedef ucontext_t Context;

void arrive(void *, Context *) {}

void switch_context(Context *leave, Context *enter) { swapcontext(leave, enter); }

void make_context(Context *context, char *stack, size_t bytes, void (*begin)())
{
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = bytes;
    context->uc_link = nullptr;
    makecontext(context, begin, 0);
}
#endif

struct Fibre {
    Context context;
    uint3 index;
    bool ended;
    std::unique_ptr<char[]> stack;
};

struct Block {
    int live, arrived, sum, result;
    uint64_t generation;
    uint64_t progress; /* grows whenever a thread gets on */
};

std::vector<Fibre> fibres;
std::vector<Warp> warps;
Block block;
Context scheduler;
size_t current;
const std::function<void()> *running;
std::vector<uint64_t> dynamic_shared;

void yield_fibre() { switch_context(&fibres[current].context, &scheduler); }

void release_block()
{
    block.result = block.sum;
    block.sum = block.arrived = 0;
    ++block.generation;
}

void release_warp(Warp &warp)
{
    warp.arrived = 0;
    ++warp.generation;
}

void begin_fibre()
{
    arrive(nullptr, &scheduler);
    (*running)();
    fibres[current].ended = true;
    ++block.progress;
    /* Threads that have ended are not waited for. */
    if (--block.live > 0 && block.arrived == block.live) release_block();
    Warp &warp = warps[current / LANES];
    if (--warp.live > 0 && warp.arrived == warp.live) release_warp(warp);
    for (;;) /* the stack is not used again before it is made anew */
        yield_fibre();
}

int barrier(int value)
{
    block.sum += value;
    ++block.progress;
    const uint64_t generation = block.generation;
    if (++block.arrived == block.live)
        release_block();
    else
        while (block.generation == generation)
            yield_fibre();
    return block.result;
}

/* After it, warp.value[parity] is what every lane gave. */
int exchange(uint64_t value)
{
    Warp &warp = warps[current / LANES];
    const uint64_t generation = warp.generation;
    warp.value[generation & 1][current % LANES] = value;
    ++block.progress;
    if (++warp.arrived == warp.live)
        release_warp(warp);
    else
        while (warp.generation == generation)
            yield_fibre();
    return static_cast<int>(generation & 1);
}

void run_block(size_t threads, dim3 shape)
{
    while (fibres.size() < threads) {
        fibres.emplace_back();
        fibres.back().stack.reset(new char[STACK_BYTES]);
    }
    warps.assign((threads + LANES - 1) / LANES, Warp{});
    block = Block{};
    block.live = static_cast<int>(threads);
    for (size_t t = 0; t < threads; ++t) {
        Fibre &fibre = fibres[t];
        fibre.ended = false;
        fibre.index = {static_cast<unsigned int>(t % shape.x),
                       static_cast<unsigned int>(t / shape.x % shape.y),
                       static_cast<unsigned int>(t / shape.x / shape.y)};
        ++warps[t / LANES].live;
        make_context(&fibre.context, fibre.stack.get(), STACK_BYTES, begin_fibre);
    }
    while (block.live > 0) {
        const uint64_t before = block.progress;
        for (size_t t = 0; t < threads; ++t) {
            if (fibres[t].ended) continue;
            current = t;
            threadIdx = fibres[t].index;
            switch_context(&scheduler, &fibres[t].context);
        }
        if (block.live > 0 && block.progress == before) {
            std::fprintf(stderr, "block %u,%u: %d threads wait at barriers that the others never reach\n",
                         blockIdx.x, blockIdx.y, block.live);
            std::abort();
        }
    }
}

} // namespace

static void run_grid(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()> &kernel)
{
    const size_t count = static_cast<size_t>(threads.x) * threads.y * threads.z;
    const uint64_t grid = static_cast<uint64_t>(blocks.x) * blocks.y * blocks.z;
    if (count == 0 || count > 1024 || grid == 0 || blocks.y > 65535 || blocks.z > 65535 ||
        shared_bytes > 48 << 10) { /* more needs cudaFuncSetAttribute, which launch() does not call */
        std::fprintf(stderr, "a GPU would refuse this launch: %llu blocks of %zu threads, %zu bytes\n",
                     static_cast<unsigned long long>(grid), count, shared_bytes);
        std::abort();
    }
    static std::mutex one_grid_at_a_time; /* tests of ranks as threads */
    const std::lock_guard<std::mutex> lock(one_grid_at_a_time);
    blockDim = threads;
    gridDim = blocks;
    running = &kernel;
    /* A stride without a common divisor visits every block once, in no natural order. */
    uint64_t stride = grid / 2 + 1;
    auto divisor = [](uint64_t a, uint64_t b) {
        while (b != 0) {
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        return a;
    };
    while (divisor(stride, grid) != 1)
        ++stride;
    for (uint64_t i = 0, at = 0; i < grid; ++i, at = (at + stride) % grid) {
        dynamic_shared.assign((shared_bytes + 7) / 8,
                              0xffa5a5a5ffa5a5a5u); /* NaNs: nobody may count on zeros */
        blockIdx = {static_cast<unsigned int>(at % blocks.x),
                    static_cast<unsigned int>(at / blocks.x % blocks.y),
                    static_cast<unsigned int>(at / blocks.x / blocks.y)};
        run_block(count, threads);
    }
}

/* ---- the stream ---- */

static std::vector<std::function<void()>> *recorded; /* while recording */
static std::deque<std::function<void()>> to_do;      /* in order; of one thread */
static int64_t given, done;                          /* pieces of work */

static bool works_late()
{
    static const char *const late = std::getenv("PLUMB_TEST_LATE");
    return late != nullptr && late[0] == '1';
}

void enqueue_on_host(std::function<void()> work)
{
    if (recorded != nullptr) {
        recorded->push_back(std::move(work));
        return;
    }
    if (works_late()) {
        to_do.push_back(std::move(work));
        ++given;
        return;
    }
    open_device_memory(true);
    work();
    open_device_memory(false);
}

int64_t given_on_host() { return given; }

void work_on_host_until(int64_t end)
{
    if (done >= end) return;
    open_device_memory(true);
    for (; done < end; ++done) {
        to_do.front()();
        to_do.pop_front();
    }
    open_device_memory(false);
}

void record_on_host(std::vector<std::function<void()>> *into) { recorded = into; }
bool is_recording_on_host() { return recorded != nullptr; }

void launch_on_host(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()> &kernel)
{
    enqueue_on_host([=] { run_grid(blocks, threads, shared_bytes, kernel); });
}

void *host_shared_memory() { return dynamic_shared.data(); }
void __syncthreads() { (void)barrier(0); }
int __syncthreads_count(int predicate) { return barrier(predicate != 0); }
int __syncthreads_or(int predicate) { return barrier(predicate != 0) > 0; }
int __syncthreads_and(int predicate) { return barrier(predicate == 0) == 0; }
void __syncwarp(unsigned int) { (void)exchange(0); }
int host_lane() { return static_cast<int>(current % LANES); }

uint64_t host_exchange(uint64_t value, int from)
{
    const int parity = exchange(value);
    const Warp &warp = warps[current / LANES];
    return from >= 0 && from < LANES ? warp.value[parity][from] : value;
}

unsigned int __ballot_sync(unsigned int, int predicate)
{
    Warp &warp = warps[current / LANES];
    warp.value[~warp.generation & 1][current % LANES] = 0; /* of a lane that ends before its turn */
    const int parity = exchange(predicate != 0);
    unsigned int bits = 0;
    const size_t first = current / LANES * LANES;
    for (size_t lane = 0; lane < LANES && first + lane < fibres.size(); ++lane)
        if (!fibres[first + lane].ended && warp.value[parity][lane] != 0) bits |= 1u << lane;
    return bits;
}
