// What CUDA gives a kernel, for g++: blocks run one after another, the threads of a block as fibers.
//
// A fiber runs until its kernel returns or waits for its block or warp. This finds wrong arithmetic, wrong
// indices and missing barriers within a block (fibers run from 0 up, or from the last down), but no races
// between blocks.
#pragma once
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time
#define __restrict__ __restrict

using std::fmaxf;
using std::fminf;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
static inline T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
static inline T max(T a, T b) {
  return a > b ? a : b;
}
static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
#define __isGlobal(pointer) true
#define __builtin_assume(fact) ((void)(fact))
static inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift < 32 ? shift : 32));
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return __funnelshift_rc(low, high, shift % 32);
}
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
static inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
static inline int __clzll(long long bits) { return bits == 0 ? 64 : __builtin_clzll(bits); }

// What rounding.h asks of the GPU's own instruction.
static inline unsigned half_pair(float first, float second) {
  const _Float16 halves[2] = {static_cast<_Float16>(first), static_cast<_Float16>(second)};
  unsigned bits;
  std::memcpy(&bits, halves, sizeof bits);
  return bits;
}

template <class T>
static inline T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}
template <class T>
static inline T atomicMin(T* address, T value) {
  const T old = *address;
  *address = min(old, value);
  return old;
}
template <class T>
static inline T atomicMax(T* address, T value) {
  const T old = *address;
  *address = max(old, value);
  return old;
}
template <class T>
static inline T atomicCAS(T* address, T expected, T value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

namespace on_cpu {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 64 << 10;

// A place where some fibers wait for each other.
struct Barrier {
  int running = 0;
  int waiting = 0;
  unsigned turn = 0;
};

static void run_fiber();

// Where a fiber was left. ucontext asks the kernel for the signal mask at every switch, hence a switch of our own
// where that is known.
#ifdef __x86_64__
extern "C" void switch_stack(void** left, void* entered);
asm(R"(
.pushsection .text
switch_stack:
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
.popsection
)");
struct Context {
  void* stack_pointer;
  void start_on(std::vector<char>& stack) {
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack.data() + stack.size()) & ~uintptr_t(15));
    *(top -= 2) = reinterpret_cast<void*>(run_fiber);  // returned to, and the stack is then as after a call
    stack_pointer = top - 6;                           // the registers that are restored first
  }
  void go_to(const Context& other) { switch_stack(&stack_pointer, other.stack_pointer); }
};
#else
struct Context {
  ucontext_t context;
  void start_on(std::vector<char>& stack) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack.data();
    context.uc_stack.ss_size = stack.size();
    makecontext(&context, run_fiber, 0);
  }
  void go_to(const Context& other) { swapcontext(&context, &other.context); }
};
#endif

struct Fiber {
  Context context;
  std::vector<char> stack;
  bool is_done;
};

static std::vector<Fiber> fibers;
static Context scheduler;
static int current;
static Barrier block_barrier;
static std::vector<Barrier> warp_barriers;
static std::vector<uint64_t> lanes;  // what each fiber of the block shows to its warp
static void (*kernel_body)();

// Let the others go on until all that still run have come here.
static inline void wait_at(Barrier& barrier) {
  const unsigned turn = barrier.turn;
  ++barrier.waiting;
  while (barrier.turn == turn) {
    if (barrier.waiting >= barrier.running) {
      barrier.waiting = 0;
      ++barrier.turn;
      return;
    }
    fibers[current].context.go_to(scheduler);
  }
}

static inline int block_size() { return static_cast<int>(fibers.size()); }
static inline void wait_for_block() { wait_at(block_barrier); }
static inline void wait_for_warp() { wait_at(warp_barriers[current / WARP]); }

// What another lane shows, `lane` counted among the `width` lanes that this one is of; its own for one beyond them.
template <class T>
static inline T shuffled(T value, int lane, int width) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  lanes[current] = bits;
  wait_for_warp();
  const uint64_t found = lanes[lane < 0 || lane >= width ? current : current / width * width + lane];
  wait_for_warp();
  std::memcpy(&value, &found, sizeof value);
  return value;
}

static void run_fiber() {
  kernel_body();
  fibers[current].is_done = true;
  --block_barrier.running;
  --warp_barriers[current / WARP].running;
  fibers[current].context.go_to(scheduler);
}

static inline void turn_to(int fiber) {
  current = fiber;
  threadIdx = {fiber % blockDim.x, fiber / blockDim.x % blockDim.y, fiber / (blockDim.x * blockDim.y)};
}

static inline void resume(int fiber) {
  turn_to(fiber);
  scheduler.go_to(fibers[fiber].context);
}

// A kernel that never waits needs no fibers: its threads run one after another, which is much faster.
static inline void run_block_without_fibers(bool from_the_last) {
  for (int k = 0; k < block_size(); ++k) {
    turn_to(from_the_last ? block_size() - 1 - k : k);
    kernel_body();
  }
}

static inline void run_block(bool from_the_last) {
  block_barrier = {block_size()};
  warp_barriers.assign((fibers.size() + WARP - 1) / WARP, {});
  for (int fiber = 0; fiber < block_size(); ++fiber) ++warp_barriers[fiber / WARP].running;
  lanes.assign(fibers.size(), 0);
  for (Fiber& fiber : fibers) {
    fiber.is_done = false;
    fiber.stack.resize(STACK_BYTES);
    fiber.context.start_on(fiber.stack);
  }
  while (block_barrier.running > 0) {
    for (int k = 0; k < block_size(); ++k) {
      const int fiber = from_the_last ? block_size() - 1 - k : k;
      if (!fibers[fiber].is_done) resume(fiber);
    }
  }
}

}  // namespace on_cpu

#define __syncthreads() on_cpu::wait_for_block()
#define __syncwarp() on_cpu::wait_for_warp()

template <class T>
static inline T __shfl_sync(unsigned, T value, int lane, int width = on_cpu::WARP) {
  return on_cpu::shuffled(value, lane & (width - 1), width);
}
template <class T>
static inline T __shfl_up_sync(unsigned, T value, unsigned lanes, int width = on_cpu::WARP) {
  return on_cpu::shuffled(value, on_cpu::current % width - static_cast<int>(lanes), width);
}
template <class T>
static inline T __shfl_down_sync(unsigned, T value, unsigned lanes, int width = on_cpu::WARP) {
  return on_cpu::shuffled(value, on_cpu::current % width + static_cast<int>(lanes), width);
}
template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int lanes, int width = on_cpu::WARP) {
  return on_cpu::shuffled(value, on_cpu::current % width ^ lanes, width);
}

// Runs a kernel whose arguments are pointers and whole numbers: each passes in a whole register or place of the
// stack, and what a kernel has no use for does it no harm.
extern "C" void run_kernel(void* kernel, const unsigned* launch, const uint64_t* arguments, int waits,
                           int from_the_last) {
  static const uint64_t* a;
  static void (*entry)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t, uint64_t);
  entry = reinterpret_cast<decltype(entry)>(kernel);
  a = arguments;
  on_cpu::kernel_body = [] { entry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]); };
  gridDim = {launch[0]};
  blockDim = {launch[1], launch[2]};
  on_cpu::fibers.resize(launch[1] * launch[2]);
  for (unsigned block = 0; block < launch[0]; ++block) {
    blockIdx = {from_the_last ? launch[0] - 1 - block : block};
    waits ? on_cpu::run_block(from_the_last) : on_cpu::run_block_without_fibers(from_the_last);
  }
}
