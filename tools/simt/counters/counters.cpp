// counters.cpp: the sets of sectors behind the counts. "Touched in this launch" is a number a sector,
// the launch's; "touched by this instruction of the warp" is a short list for each time that a place
// of the code was passed: the lanes of a warp run one after another here, so the n-th pass of each
// belongs to the n-th of the others. Test: ctest -R simt_counters.
#include "tools/simt/counters/counters.h"

#include <algorithm>
#include <array>

#include "tools/simt/launch.h"
#include "tools/simt/memory.h"
#include "tools/simt/scheduler.h"

namespace simt {

/// The launch (from 1) that touched each sector last.
struct Counters::Page {
  static constexpr uint64_t kSectors = 128;
  std::array<std::array<uint32_t, kSectors>, 2> launch{};  // [writes]
};

/// A place of the code that reads or writes, in the block that runs.
struct Counters::Instruction {
  uint32_t block = 0;                                     // for which the rest holds
  std::array<uint32_t, kMaxThreads> passes{};             // of each thread
  std::vector<std::vector<uint64_t>> sectors[kMaxWarps];  // of each pass

  void begin(uint32_t number) {
    block = number;
    passes.fill(0);
    for (auto& warp : sectors)
      for (auto& pass : warp) pass.clear();
  }
};

Counters::Counters() {
  observer = this;
}
Counters::~Counters() {
  observer = nullptr;
}

void Counters::launch_begins(const LaunchRequest& launch) {
  launches_.push_back({symbol_name(launch.kernel), {}, {}, 0});
  instructions_.clear();
}

void Counters::block_begins() {
  ++block_;
}

void Counters::tensor_operation(int flops) {
  launches_.back().tensor_flops += static_cast<uint64_t>(flops);
}

bool Counters::first_in_launch(uint64_t sector, bool writes) {
  std::unique_ptr<Page>& page = pages_[sector / Page::kSectors];
  if (!page) page = std::make_unique<Page>();
  uint32_t& last = page->launch[writes][sector % Page::kSectors];
  const bool first = last != launches_.size();
  last = static_cast<uint32_t>(launches_.size());
  return first;
}

bool Counters::first_in_instruction(uint64_t sector, uint64_t code) {
  std::unique_ptr<Instruction>& here = instructions_[code];
  if (!here) here = std::make_unique<Instruction>();
  if (here->block != block_) here->begin(block_);
  const Thread& thread = *scheduler.current;
  const uint32_t pass = here->passes[thread.warp * kLanes + thread.lane];
  auto& passes = here->sectors[thread.warp];
  if (passes.size() <= pass) passes.resize(pass + 1);
  std::vector<uint64_t>& touched = passes[pass];
  if (std::find(touched.rbegin(), touched.rend(), sector) != touched.rend()) return false;
  touched.push_back(sector);
  return true;
}

void Counters::access(const void* address, size_t bytes, bool writes, uint64_t code) {
  if (!scheduler.launch || bytes == 0 || !is_device_address(address)) return;
  Sectors& count = writes ? launches_.back().written : launches_.back().read;
  const uint64_t first = reinterpret_cast<uint64_t>(address) / kSectorBytes,
                 last = (reinterpret_cast<uint64_t>(address) + bytes - 1) / kSectorBytes;
  for (uint64_t sector = first; sector <= last; ++sector) {
    count.distinct += first_in_launch(sector, writes);
    count.requested += first_in_instruction(sector, code);
  }
  const Thread& thread = *scheduler.current;
  ++instructions_[code]->passes[thread.warp * kLanes + thread.lane];
}

}  // namespace simt
