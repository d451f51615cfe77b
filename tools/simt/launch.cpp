// launch.cpp: checks a launch, and runs its blocks one after another: in order for seed 0, else from
// a random one on, backwards for odd seeds. Source of the limits: CUDA C++ Programming Guide,
// table "Technical Specifications per Compute Capability". Test: ctest -R simt_engine_launch.
#include "tools/simt/launch.h"

#include <algorithm>
#include <mutex>

#include "tools/simt/arena.h"
#include "tools/simt/builtins.h"
#include "tools/simt/observer.h"
#include "tools/simt/options.h"
#include "tools/simt/scheduler.h"
#include "tools/simt/symbols.h"

namespace simt {
namespace {

std::string by(const int64_t (&n)[3]) {
  return std::to_string(n[0]) + " x " + std::to_string(n[1]) + " x " + std::to_string(n[2]);
}

bool within(const int64_t (&n)[3], int64_t x, int64_t y, int64_t z) {
  return n[0] >= 1 && n[0] <= x && n[1] >= 1 && n[1] <= y && n[2] >= 1 && n[2] <= z;
}

/// The scheduler and the arena serve one launch at a time.
std::mutex one_launch;

void run_blocks(const LaunchRequest& request, uint64_t seed) {
  const uint64_t blocks =
      static_cast<uint64_t>(request.grid[0] * request.grid[1] * request.grid[2]);
  const uint64_t first = seed == 0 ? 0 : seed * 0x9E3779B97F4A7C15u % blocks;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t turn = seed % 2 ? blocks - 1 - i : i;
    const uint64_t number = (first + turn) % blocks;
    blockIdx.x = static_cast<unsigned>(number % gridDim.x);
    blockIdx.y = static_cast<unsigned>(number / gridDim.x % gridDim.y);
    blockIdx.z = static_cast<unsigned>(number / gridDim.x / gridDim.y);
    fill_arena();
    if (observer) observer->block_begins();
    run_block();
    check_arena();
  }
}

}  // namespace

cudaError_t check(const LaunchRequest& request) {
  if (!within(request.grid, 0x7FFFFFFF, 65535, 65535) || !within(request.block, 1024, 1024, 64) ||
      request.block[0] * request.block[1] * request.block[2] > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  if (request.shared_bytes > static_cast<size_t>(options().shared_limit()))
    return cudaErrorInvalidValue;
  return cudaSuccess;
}

void run(const LaunchRequest& request, void (*body)(const void*), const void* data) {
  const std::lock_guard lock(one_launch);
  Scheduler& s = scheduler;
  s.launch = &request;
  s.body = body;
  s.body_data = data;
  s.seed = options().seed;
  s.step_limit = options().step_limit;
  const auto unsigned_of = [](int64_t n) { return static_cast<unsigned>(n); };
  gridDim = {unsigned_of(request.grid[0]), unsigned_of(request.grid[1]),
             unsigned_of(request.grid[2])};
  begin_arena(request.shared_bytes);
  set_block_shape({unsigned_of(request.block[0]), unsigned_of(request.block[1]),
                   unsigned_of(request.block[2])});
  struct Finish {
    ~Finish() { scheduler.launch = nullptr; }
  } finish;
  if (observer) observer->launch_begins(request);
  run_blocks(request, s.seed);
}

std::string describe(const LaunchRequest& request) {
  return symbol_name(request.kernel) + " (" + by(request.grid) + " blocks of " + by(request.block) +
         " threads)";
}

}  // namespace simt
