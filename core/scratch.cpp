// scratch.cpp: one tensor a thread.
#include "core/scratch.h"

#include "core/tensor.h"

namespace minibert {

void* thread_scratch(size_t bytes) {
  thread_local Tensor buffer;
  if (!buffer.defined() || static_cast<size_t>(buffer.numel()) < bytes)
    buffer = Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, MemoryCategory::workspace);
  return buffer.raw();
}

}  // namespace minibert
