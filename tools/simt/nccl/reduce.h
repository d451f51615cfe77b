// reduce.h: elements of NCCL's types, and their sum, product, maximum and minimum over ranks, in the
// order of the ranks. 16-bit types are combined in f32 and rounded after each rank. Called by
// exchange.cpp. Easy to break: what a real NCCL adds up has another order, so its last bits differ.
// Test: ctest -R simt_nccl.
#pragma once

#include <cstddef>
#include <vector>

#include <nccl.h>

namespace simt {

/// 0 for a type that is not imitated (8-bit floats).
size_t size_of(ncclDataType_t type);

/// What ncclAllReduce and the like do with elements; `factor` is in the type of the elements.
struct Reduction {
  ncclRedOp_t op = ncclSum;
  bool multiplies = false;           // by ncclRedOpCreatePreMulSum: op is ncclSum
  alignas(8) std::byte factor[8]{};  // of this rank alone: others have their own
};

/// data[i] *= factor, for a Reduction that multiplies.
void multiply(const Reduction& reduction, ncclDataType_t type, void* data, size_t count);

/// result[i] = the reduction of all ranks' data[rank][i].
void reduce(const Reduction& reduction, ncclDataType_t type, const std::vector<const void*>& data,
            void* result, size_t count);

}  // namespace simt
