// support.h: what the tests of the stand-in libraries share.
// Every test starts on a fresh device under a known schedule, so that none depends on another's
// leftovers or on the environment.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tools/simt/control.h"
#include "tools/simt/memory.h"

#define EXPECT_CUDA(wanted, expression) EXPECT_EQ(wanted, expression) << #expression
#define ASSERT_OK(expression) ASSERT_EQ(cudaSuccess, expression) << #expression

namespace simt {

class FreshDevice : public ::testing::Test {
 protected:
  FreshDevice() {
    set_device_model(device_model(80));
    set_schedule(Schedule::eager);
    clear_failures();
    set_strict_memory(false);
    set_cublaslt_refuses(false);
    cudaDeviceReset();
    clear_launches();
    cudaGetLastError();
  }
  ~FreshDevice() override {
    set_strict_memory(false);
    clear_failures();
    cudaDeviceReset();
  }
};

/// Elements on the device, freed with the object. Copies in and out are synchronous.
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(size_t count) : count_(count) {
    EXPECT_EQ(cudaSuccess, cudaMalloc(&pointer_, count * sizeof(T)));
  }
  explicit OnDevice(const std::vector<T>& values) : OnDevice(values.size()) {
    EXPECT_EQ(cudaSuccess, cudaMemcpy(pointer_, values.data(), values.size() * sizeof(T),
                                      cudaMemcpyHostToDevice));
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  }
  ~OnDevice() { cudaFree(pointer_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* get() const { return static_cast<T*>(pointer_); }
  size_t bytes() const { return count_ * sizeof(T); }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    EXPECT_EQ(cudaSuccess, cudaMemcpy(values.data(), pointer_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  void* pointer_ = nullptr;
  size_t count_;
};

/// Pinned elements.
template <typename T>
class Pinned {
 public:
  explicit Pinned(size_t count) : count_(count) {
    EXPECT_EQ(cudaSuccess, cudaMallocHost(&pointer_, count * sizeof(T)));
  }
  ~Pinned() { cudaFreeHost(pointer_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  T* get() const { return static_cast<T*>(pointer_); }
  T& operator[](size_t i) const { return get()[i]; }
  size_t bytes() const { return count_ * sizeof(T); }

 private:
  void* pointer_ = nullptr;
  size_t count_;
};

}  // namespace simt
