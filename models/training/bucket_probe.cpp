// bucket_probe.cpp: timed sums, and the choice.
#include "models/training/bucket_probe.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/tensor.h"

namespace minibert {
namespace {

constexpr int64_t kLargest = 32;  // MiB
constexpr double kEnough = 0.8;   // of the best rate
constexpr int kRuns = 3;          // of each size, after one to warm up
constexpr double kLongest = 2;    // seconds of a sum, after which no larger one is timed
constexpr int64_t kMebibyte = 1 << 20;

/// The median of a few sums.
double seconds_of(const Elements& data, ProcessGroup& group, ProcessGroup& control) {
  std::vector<double> seconds;
  for (int run = 0; run <= kRuns; ++run) {
    control.barrier().wait();
    const double begin = seconds_now();
    group.all_reduce(data).wait();
    group.check();
    if (run > 0) seconds.push_back(seconds_now() - begin);
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

/// Rank 0's times, on all ranks.
double share(double seconds, ProcessGroup& control) {
  control.broadcast(Elements(std::span(&seconds, 1)), 0).wait();
  return seconds;
}

}  // namespace

int64_t bucket_of(const std::vector<BucketTiming>& timings) {
  MB_ASSERT(!timings.empty(), "no sum was timed");
  const auto rate = [](const BucketTiming& one) {
    return static_cast<double>(one.megabytes) / std::max(one.seconds, 1e-9);
  };
  double best = 0;
  for (const BucketTiming& one : timings) best = std::max(best, rate(one));
  return std::ranges::find_if(timings,
                              [&](const BucketTiming& one) { return rate(one) >= kEnough * best; })
      ->megabytes;
}

BucketSize choose_bucket(int64_t setting, const BucketChoice& before, int64_t gradient_bytes,
                         Device device, ProcessGroup& group, ProcessGroup& control) {
  if (setting > 0 || group.world() == 1) return {setting};
  if (before.megabytes > 0 && before.ranks == group.world())
    return {before.megabytes, before, " (by the probe of the run's start)"};
  const int64_t most = std::clamp<int64_t>(gradient_bytes / kMebibyte, 1, kLargest);
  const Tensor sums =
      Tensor::zeros({most * kMebibyte / 4}, DType::f32, MemoryCategory::workspace, device);
  std::vector<BucketTiming> timings;
  std::string figures;
  for (int64_t size = 1; size <= most; size *= 2) {
    const double seconds =
        share(seconds_of(Elements(sums).part(0, size * kMebibyte / 4), group, control), control);
    timings.push_back({size, seconds});
    figures +=
        fmt::format("{}{} MiB in {:.1f} ms", figures.empty() ? "" : ", ", size, 1e3 * seconds);
    if (seconds > kLongest) break;
  }
  const int64_t size = bucket_of(timings);
  return {size, {size, group.world()}, fmt::format(" (by a probe of sums: {})", figures)};
}

}  // namespace minibert
