// simt_unit_costs.cu: what the engine's primitives cost on this machine, in CPU time: a warp's shuffle,
// mma and ldmatrix, a barrier, a thread that never waits, a launch. The first line is the machine's
// own measure, a switch of stacks in bare assembler, to compare machines by.
// Run: build/simt/bin/simt_unit_costs. Each figure is the least of several rounds.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "core/ptx.h"

namespace minibert {
namespace {

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Least nanoseconds for one of `count` things that run() does.
template <typename Run>
double nanoseconds(double count, const Run& run) {
  double least = 1e9;
  for (int round = 0; round < 7; ++round) {
    const double start = cpu_seconds();
    run();
    least = std::min(least, cpu_seconds() - start);
  }
  return 1e9 * least / count;
}

void print(const char* what, double ns) {
  std::printf("%-44s %9.1f ns\n", what, ns);
}

// ---- The machine's measure ---------------------------------------------------------------------
asm(R"(
  .text
bare_switch:
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
extern "C" void bare_switch(void** from, void* to);
void *here, *there;
alignas(16) unsigned char stack[4096];
void bounce() {
  for (;;) bare_switch(&there, here);
}

double bare_switch_ns() {
  auto* top = reinterpret_cast<void**>(stack + sizeof stack) - 1;
  top[-1] = reinterpret_cast<void*>(bounce);
  there = top - 7;
  const int n = 1 << 20;
  return nanoseconds(2.0 * n, [&] {
    for (int i = 0; i < n; ++i) bare_switch(&here, there);
  });
}

// ---- Primitives ----------------------------------------------------------------------------------
enum class Unit { shuffle, mma_bf16, mma_f16, ldmatrix, barrier };

template <Unit kUnit>
__global__ void repeat(int n, float* out) {
  MB_SHARED(uint4, tile, 32);
  float x = static_cast<float>(threadIdx.x);
  uint32_t a[4] = {};
  const uint32_t b[2] = {};
  float c[4] = {};
  tile[lane_id()] = make_uint4(0, 0, 0, 0);
  for (int i = 0; i < n; ++i) {
    if constexpr (kUnit == Unit::shuffle) x += __shfl_xor_sync(kFullMask, x, 1);
    if constexpr (kUnit == Unit::mma_bf16) mma_m16n8k16<__nv_bfloat16>(c, a, b);
    if constexpr (kUnit == Unit::mma_f16) mma_m16n8k16<__half>(c, a, b);
    if constexpr (kUnit == Unit::ldmatrix) ldmatrix_x4(a, tile + lane_id());
    if constexpr (kUnit == Unit::barrier) __syncthreads();
  }
  out[threadIdx.x] = x + c[0] + static_cast<float>(a[0]);
}
__global__ void write_one(float* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

template <Unit kUnit>
double unit_ns(int threads) {
  static float out[1024];
  const int n = 64000 / threads;
  return nanoseconds(n, [&] { launch(repeat<kUnit>, 1, threads, 0, {}, n, out); });
}

void run() {
  print("bare switch of stacks (machine's measure)", bare_switch_ns());
  print("shuffle, a warp", unit_ns<Unit::shuffle>(32));
  print("mma_m16n8k16 bf16, a warp", unit_ns<Unit::mma_bf16>(32));
  print("mma_m16n8k16 f16, a warp", unit_ns<Unit::mma_f16>(32));
  print("ldmatrix_x4, a warp", unit_ns<Unit::ldmatrix>(32));
  print("__syncthreads, 128 threads", unit_ns<Unit::barrier>(128));
  print("__syncthreads, 1024 threads", unit_ns<Unit::barrier>(1024));
  static float out[1 << 18];
  print("a thread that never waits",
        nanoseconds(1 << 18, [&] { launch(write_one, 1024, 256, 0, {}, out); }));
  print("launch of one thread", nanoseconds(10000, [&] {
          for (int i = 0; i < 10000; ++i) launch(write_one, 1, 1, 0, {}, out);
        }));
}

}  // namespace
}  // namespace minibert

int main() {
  minibert::run();
}
