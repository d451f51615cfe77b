// nccl_group_absent.cpp: a build without NCCL says how to get it.
#include "core/error.h"
#include "dist/nccl_group.h"

namespace minibert {

std::unique_ptr<ProcessGroup> nccl_group(Store&, const NcclOptions&) {
  fail<UsageError>(
      "nccl: this build has no NCCL, which ranks on GPUs need. Install NVIDIA's packages libnccl2 "
      "and "
      "libnccl-dev (developer.nvidia.com/nccl), then configure and build again with tools/build "
      "cuda");
}

bool nccl_available() {
  return false;
}

}  // namespace minibert
