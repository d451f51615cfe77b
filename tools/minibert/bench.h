// bench.h: what the benchmarks share: repeated timing, and the machine's limits as measured by a
// short probe (never typed in). Implemented by bench_timing.cpp; used by bench.cpp (ops),
// bench_gemm.cpp and bench_step.cpp. Easy to break: a limit is the rate that our own best kernel
// reached in the probe, so an op whose tensors fit in the cache may exceed 100 % of it.
// Test: ctest -R tools_bench.
#pragma once

#include <functional>

#include "core/device_stream.h"
#include "core/dtype.h"
#include "tools/minibert/verbs.h"

namespace minibert {

struct Timing {
  double min = 0, median = 0, max = 0;  // seconds
  int runs = 0;
};

/// Calls prepare() (not timed) and run() (timed) repeatedly, at least 3 times and for about
/// `seconds` in total, after one call to warm up.
Timing time_of(const std::function<void()>& prepare, const std::function<void()>& run,
               double seconds);

/// The same for work that run() queues on the stream, on CUDA: one call's share of so many in a row
/// that together they take a millisecond.
Timing device_time_of(const std::function<void()>& run, DeviceStream& stream, double seconds);

/// The rates that this machine reaches with the current number of threads.
struct MachineLimits {
  double flops = 0;  // FLOP/s: the fastest of some large matrix products, oneDNN or built-in
  double bytes = 0;  // bytes/s: the faster of scaling in place and adding, beyond the caches
  /// Seconds that such work takes at the limits: the longer of the two times.
  double bound(double flop_count, double byte_count) const;
};
/// The products are of this type. Takes about 2 s and 400 MB.
MachineLimits probe_machine(DType dtype = DType::f32);
/// The same of a GPU: probe_peak_flops, and copies of arrays. Takes 512 MiB of its memory.
MachineLimits probe_device(const ComputeOptions& compute, DeviceStream& stream);

void add_bench_gemm(CLI::App& bench);
void add_bench_step(CLI::App& bench);
void add_bench_all_reduce(CLI::App& bench);
void add_bench_tokenizer(CLI::App& bench);

}  // namespace minibert
