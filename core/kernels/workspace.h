// workspace.h: scratch memory of a kernel, uninitialised, counted as MemoryCategory::workspace and
// given back at the end of the scope. On device cuda the kernels that use it may not have run by
// then; whoever gets the memory next queues after them, on the same stream.
#pragma once

#include "core/tensor.h"

namespace minibert {

template <typename T>
class Workspace {
 public:
  explicit Workspace(int64_t count, Device device = Device::cpu)
      : bytes_(Tensor::empty({count * static_cast<int64_t>(sizeof(T))}, DType::u8,
                             MemoryCategory::workspace, device)) {}
  /// 64-byte aligned.
  T* data() const { return reinterpret_cast<T*>(bytes_.raw()); }

 private:
  Tensor bytes_;
};

}  // namespace minibert
