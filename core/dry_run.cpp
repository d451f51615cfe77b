// dry_run.cpp: the thread's dry run, and what its kernels take.
#include "core/dry_run.h"

#include "core/parallel.h"

namespace minibert {

DryRun*& DryRun::current() {
  thread_local DryRun* run = nullptr;
  return run;
}

DryRun::DryRun(int threads)
    : allocator_(Allocator::without_memory()),
      thread_scratch_(static_cast<size_t>(threads > 0 ? threads : num_threads())),
      outer_(current()) {
  current() = this;
  Allocator::use(allocator_.get());
}

DryRun::~DryRun() {
  thread_scratch_.clear();
  current() = outer_;
  Allocator::use(outer_ ? outer_->allocator_.get() : nullptr);
}

void DryRun::kernel(const KernelMemory& memory, Device device) {
  std::vector<Tensor> held;
  for (const int64_t bytes : memory.workspaces)
    held.push_back(Tensor::empty({bytes}, DType::u8, MemoryCategory::workspace, device));
  if (memory.thread_scratch == 0) return;
  for (Tensor& buffer : current()->thread_scratch_)  // as thread_scratch() grows
    if (!buffer.defined() || buffer.numel() < memory.thread_scratch)
      buffer = Tensor::empty({memory.thread_scratch}, DType::u8, MemoryCategory::workspace);
}

}  // namespace minibert
