// bucket_probe.h: chooses the size of gradient buckets (gradient_buckets.h) for this network, where
// ranks.bucket_megabytes is 0. Called by trainer.cpp before its first step.
// The last bucket's sum begins when backward is over, so nothing hides it: the smaller the buckets, the
// less is exposed. But every sum costs some time whatever its size, so small buckets travel at a lower
// rate, and all sums together may outlast backward. The probe times sums of 1, 2, 4 .. 32 MiB and takes
// the smallest whose rate is at least 80 % of the best. Rank 0 decides. Easy to break: the order of
// additions depends on the size where there are three ranks or more, so a checkpoint keeps the choice.
// Test: ctest -R bucket_probe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dist/process_group.h"
#include "models/training/checkpoint.h"

namespace minibert {

/// A size and the time that its sum took.
struct BucketTiming {
  int64_t megabytes = 0;
  double seconds = 0;
};
/// The smallest size whose rate is at least 80 % of the best. `timings` has at least one.
int64_t bucket_of(const std::vector<BucketTiming>& timings);

struct BucketSize {
  int64_t megabytes = 0;
  BucketChoice bucket = {};  // for the checkpoint; none, if it was not a probe's
  std::string reason = {};   // " (...)": from which figures; empty for a setting
};

/// `setting` unless that is 0; else `before`, if it was chosen for as many ranks; else the result of a
/// probe with sums on `device` over `group`, none larger than all gradients. All ranks call it;
/// `control` is the group for the host's memory. Errors: CommError.
BucketSize choose_bucket(int64_t setting, const BucketChoice& before, int64_t gradient_bytes,
                         Device device, ProcessGroup& group, ProcessGroup& control);

}  // namespace minibert
