// precision.cpp: names, and what CPUs can't do.
#include "core/precision.h"

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/simd.h"

namespace minibert {

const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16:
      return "bf16";
    case Precision::fp16:
      return "fp16";
  }
  return "?";
}

Precision parse_precision(const std::string& name) {
  for (const Precision precision :
       {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16}) {
    if (name == name_of(precision)) return precision;
  }
  fail<UsageError>("precision is \"{}\", expected fp32, tf32, bf16 or fp16.{}", name,
                   did_you_mean(name, {"fp32", "tf32", "bf16", "fp16"}));
}

DType compute_type(Precision precision) {
  if (precision == Precision::bf16) return DType::bf16;
  if (precision == Precision::fp16) return DType::f16;
  return DType::f32;
}

ComputeOptions compute_options(Precision precision, Device device) {
  check_precision(precision, device);
  return {compute_type(precision), device, precision == Precision::tf32};
}

void check_precision(Precision precision, Device device) {
  if (device == Device::cuda) {
    MB_CHECK(cuda_available(), "device is cuda, but {}", cuda_unavailable_reason());
    return;
  }
  MB_CHECK(precision != Precision::tf32,
           "precision is tf32, expected fp32, bf16 or fp16 on device cpu: tf32 is a product of "
           "NVIDIA's tensor cores, which no CPU has. Use --precision fp32.");
  MB_CHECK(precision != Precision::fp16 || simd_level() != SimdLevel::v2,
           "precision is fp16, expected fp32 or bf16: this CPU (or MINIBERT_SIMD={}) has no F16C "
           "instructions to convert it. Use --precision bf16.",
           name_of(simd_level()));
}

}  // namespace minibert
