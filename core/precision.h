// precision.h: what --precision names: the compute type, and what a device can do with it.
// Called by every verb that runs a model (`train` by models/training/run_setup.cpp, the others by
// tools/minibert/compute_flags.h), so that the rules are the same in all: masters, moments,
// parameter gradients, LayerNorm's vectors, statistics and losses are f32; activations, their
// gradients and the working weights have the compute type; sums are f32. Easy to break: fp32 means
// f32 everywhere; tf32 is f32 in memory with another product, which a CPU does not have.
// Test: ctest -R core_precision.
#pragma once

#include <string>

#include "core/device.h"

namespace minibert {

enum class Precision { fp32, tf32, bf16, fp16 };

const char* name_of(Precision precision);
/// "fp32", "tf32", "bf16" or "fp16". Errors: UsageError for another name.
Precision parse_precision(const std::string& name);
/// Element type of activations and working weights.
DType compute_type(Precision precision);

/// What layers compute in, and where.
struct ComputeOptions {
  DType dtype = DType::f32;  // E: f32, bf16 or f16
  Device device = Device::cpu;
  bool tf32 = false;  // f32 factors of products may be rounded to tf32 (core/stream.h)
};
/// Errors: UsageError with the reason and what to use instead: cuda where it can't be used, tf32 on a
/// CPU, fp16 on a CPU without F16C (or with MINIBERT_SIMD=v2, which does without it).
void check_precision(Precision precision, Device device);
/// The same as options. Errors: as check_precision.
ComputeOptions compute_options(Precision precision, Device device);

}  // namespace minibert
