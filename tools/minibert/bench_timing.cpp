// bench_timing.cpp: repeated timing, and short probes of what the machine or its GPU can do.
// Test: ctest -R tools_bench.
#include <algorithm>

#include "core/allocator.h"
#include "core/clock.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"
#include "models/training/peak_flops.h"
#include "tools/minibert/bench.h"

namespace minibert {

Timing time_of(const std::function<void()>& prepare, const std::function<void()>& run,
               double seconds) {
  prepare();
  run();
  std::vector<double> times;
  const double begin = seconds_now();
  while (times.size() < 3 || seconds_now() - begin < seconds) {
    prepare();
    const double start = seconds_now();
    run();
    times.push_back(seconds_now() - start);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2], times.back(), static_cast<int>(times.size())};
}

Timing device_time_of(const std::function<void()>& run, DeviceStream& stream, double seconds) {
  run();
  stream.wait();
  int in_a_row = 1;
  const auto batch = [&] {
    const double start = seconds_now();
    for (int i = 0; i < in_a_row; ++i) run();
    stream.wait();
    return seconds_now() - start;
  };
  while (batch() < 1e-3) in_a_row *= 2;
  Timing timing = time_of([] {}, [&] { batch(); }, seconds);
  for (double* each : {&timing.min, &timing.median, &timing.max}) *each /= in_a_row;
  return timing;
}

double MachineLimits::bound(double flop_count, double byte_count) const {
  return std::max(flop_count / flops, byte_count / bytes);
}

namespace {

double fastest_product(DType dtype, int64_t M, int64_t N, int64_t K) {
  const Tensor a = Tensor::zeros({M, K}, dtype), b = Tensor::zeros({N, K}, dtype),
               c = Tensor::empty({M, N}, dtype);
  GemmArgs args;
  args.a = a;
  args.b = b;
  args.transpose_b = true;
  args.c = c;
  const Timing timing = time_of([] {}, [&] { gemm(args); }, 0.2);
  return gemm_cost(args).flops / timing.min;
}

}  // namespace

MachineLimits probe_machine(DType dtype) {
  MachineLimits limits;
  for (const GemmBackend backend : {GemmBackend::fastest, GemmBackend::builtin}) {
    gemm_use(backend);
    for (const auto& [M, N, K] :
         {std::tuple{1024, 768, 768}, {1024, 3072, 768}, {1536, 1536, 1536}})
      limits.flops = std::max(limits.flops, fastest_product(dtype, M, N, K));
  }
  gemm_use(GemmBackend::fastest);
  const int64_t n = 32 << 20;  // 128 MiB per array
  const Tensor a = Tensor::zeros({n}), b = Tensor::zeros({n}), c = Tensor::zeros({n});
  // In place, no cache line is fetched only to be overwritten: the highest rate of the memory.
  const Timing in_place = time_of([] {}, [&] { scale(a, 1, a, /* accumulate= */ false); }, 0.3);
  const Timing sum = time_of([] {}, [&] { add_forward(a, b, c); }, 0.3);
  limits.bytes = std::max(8.0 * n / in_place.min, 12.0 * n / sum.min);
  Allocator::instance().release_cache();
  return limits;
}

MachineLimits probe_device(const ComputeOptions& compute, DeviceStream& stream) {
  MachineLimits limits;
  limits.flops = probe_peak_flops(compute);
  const int64_t n = 64 << 20;  // 256 MiB per array
  const auto zeros = [&] {
    return Tensor::zeros({n}, DType::f32, MemoryCategory::activations, compute.device);
  };
  const Tensor a = zeros(), b = zeros();
  const Timing copy = device_time_of([&] { b.copy_from(a); }, stream, 0.2);
  limits.bytes = 8.0 * static_cast<double>(n) / copy.min;
  return limits;
}

}  // namespace minibert
