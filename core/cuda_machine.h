// cuda_machine.h: what the CUDA runtime says of this machine, for `minibert doctor`; no kernel runs.
// In a build without CUDA core/cuda_absent.cpp defines it. Easy to break: free memory is known to a
// context alone, so asking for it makes one on each GPU: some 300 MB there until the process ends.
// Test: ctest -R training_doctor; with devices: ctest --preset simt -R core_cuda_machine.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace minibert {

struct CudaGpu {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int64_t memory_bytes = 0, free_bytes = 0;
};

struct CudaMachine {
  bool in_build = false;
  int driver = 0, runtime = 0;  // CUDA versions, 13.0 as 13000; driver 0: none
  std::string error = {};       // why no GPU can be used; empty if there is one
  std::vector<CudaGpu> gpus = {};
  std::vector<std::pair<int, int>> apart = {};  // pairs that can't read each other's memory
};
CudaMachine cuda_machine();

}  // namespace minibert
