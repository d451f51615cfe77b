// counters.h: what kernels did to global memory and to tensor cores, launch by launch: what a
// profiler on a GPU calls sectors and requests, counted on the CPU, exactly and without a GPU.
// Made by tests and tools around the code to be counted. Two numbers, for two questions:
//   distinct   sectors (32 bytes) that a launch touched at all, each once: what must cross the bus of
//              the device's memory if the L2 cache holds all else, so the least that a launch costs.
//              Figures of "bytes moved" (facts of hardware, cost functions of chapters) mean this.
//   requested  sum over instructions of warps of the sectors that each touches: what the L1 cache is
//              asked for. requested / distinct shows re-reading and uncoalesced accesses.
// Easy to break: only kernel files compiled with SIMT_INSTRUMENT_OPTIONS are seen (CMakeLists.txt);
// cp.async and mma always are. Test: ctest -R simt_counters.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/simt/observer.h"

namespace simt {

inline constexpr uint64_t kSectorBytes = 32;

struct Sectors {
  uint64_t distinct = 0, requested = 0;
};

struct LaunchCounts {
  std::string kernel;  // "cast_rows<float, __half>"
  Sectors read, written;
  uint64_t tensor_flops = 0;  // 2 a multiply-add, of mma
};

/// While it lives, every launch is counted. One at a time.
class Counters : public Observer {
 public:
  Counters();
  ~Counters() override;
  Counters(const Counters&) = delete;
  Counters& operator=(const Counters&) = delete;

  /// In the order in which they ran.
  const std::vector<LaunchCounts>& launches() const { return launches_; }

  void launch_begins(const LaunchRequest& launch) override;
  void block_begins() override;
  void access(const void* address, size_t bytes, bool writes, uint64_t code) override;
  void tensor_operation(int flops) override;

 private:
  struct Page;
  struct Instruction;
  bool first_in_launch(uint64_t sector, bool writes);
  bool first_in_instruction(uint64_t sector, uint64_t code);

  std::vector<LaunchCounts> launches_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  std::unordered_map<uint64_t, std::unique_ptr<Instruction>> instructions_;
  uint32_t block_ = 0;
};

}  // namespace simt
