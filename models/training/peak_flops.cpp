// peak_flops.cpp: one product, again and again.
#include "models/training/peak_flops.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/clock.h"
#include "core/device_marks.h"
#include "core/kernels/copy.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/random.h"
#include "core/tensor.h"

namespace minibert {
namespace {

/// Random numbers of -1 to 1: [size, size].
Tensor random_matrix(int64_t size, const ComputeOptions& compute) {
  const Tensor f32 = Tensor::empty({size, size});
  RandomStream random(1, StreamPurpose::user, 0);
  for (float& x : f32.span<float>()) x = 2 * random.uniform() - 1;
  const Tensor host = f32.to(compute.dtype);
  if (compute.device == Device::cpu) return host;
  Tensor there =
      Tensor::empty(host.shape(), compute.dtype, MemoryCategory::workspace, compute.device);
  copy_to_device(host.raw(), there);
  cuda_wait(current_stream());  // `host` ends here
  return there;
}

GemmArgs product_of(const Tensor& a, const Tensor& b, const Tensor& c) {
  GemmArgs product;
  product.a = a;
  product.b = b;
  product.c = c;
  return product;
}

double probe_cpu(const ComputeOptions& compute) {
  constexpr int64_t kSize = 512;
  constexpr double kSeconds = 0.15;  // long enough to meet a moment without other work
  const Tensor a = random_matrix(kSize, compute), c = Tensor::empty(a.shape(), compute.dtype);
  const GemmArgs product = product_of(a, a, c);
  const double begin = seconds_now();
  double best = INFINITY;
  while (seconds_now() - begin < kSeconds) {
    const double start = seconds_now();
    gemm(product);
    best = std::min(best, seconds_now() - start);
  }
  return gemm_cost(product).flops / best;
}

/// The best of a few rounds of a product of this size, and the host's seconds for them.
struct Probe {
  double flops_per_second, host_seconds;
};
Probe probe_size(int64_t size, const ComputeOptions& compute) {
  constexpr int kRounds = 4;
  const Tensor a = random_matrix(size, compute);
  const Tensor c = Tensor::empty(a.shape(), compute.dtype, MemoryCategory::workspace, Device::cuda);
  const GemmArgs product = product_of(a, a, c);
  const Stream stream = current_stream();
  gemm(product);  // opens the library
  cuda_wait(stream);
  const double start = seconds_now();
  double best = INFINITY;
  for (int i = 0; i < kRounds; ++i) {
    void* before = cuda_timed_mark(stream);
    gemm(product);
    void* after = cuda_timed_mark(stream);
    cuda_wait(stream);
    best = std::min(best, cuda_seconds_between(before, after));
    cuda_end_mark(before);
    cuda_end_mark(after);
  }
  return {gemm_cost(product).flops / best, seconds_now() - start};
}

/// Larger and larger products, until they fill any GPU, or take long: under emulation they soon do.
double probe_cuda(const ComputeOptions& compute) {
  constexpr int64_t kSmallest = 64, kLargest = 4096;
  constexpr double kLong = 0.005;  // seconds
  const GemmCudaBackend allowed = gemm_cuda_backend();
  double best = 0;
  for (const GemmCudaBackend backend : {GemmCudaBackend::ours, GemmCudaBackend::cublaslt}) {
    if (allowed != GemmCudaBackend::fastest && allowed != backend) continue;
    gemm_cuda_use(backend);
    for (int64_t size = kSmallest; size <= kLargest; size *= 2) {
      const Probe probe = probe_size(size, compute);
      best = std::max(best, probe.flops_per_second);
      if (probe.host_seconds > kLong) break;
    }
  }
  gemm_cuda_use(allowed);
  return best;
}

}  // namespace

double probe_peak_flops(const ComputeOptions& compute) {
  return compute.device == Device::cpu ? probe_cpu(compute) : probe_cuda(compute);
}

}  // namespace minibert
