// doctor_ranks.h: the part of `minibert doctor` that needs all ranks of a run: whether they find each
// other, and at what rate they sum. Called by doctor.cpp. Test: ctest -R doctor_verb.
#pragma once

#include <string>

#include "dist/launch.h"
#include "models/training/doctor.h"

namespace minibert {

struct RankCheck {
  int ranks = 0;  // --nproc; 0: not given
  std::string collectives = "gloo", interface = {};
  double timeout = 60;  // seconds
};

/// Joins the ranks and times an all-reduce of 25 MB, a bucket of gradients, and of 4 bytes, the
/// beginning of every sum. All ranks call it. A rank that does not come is a finding that failed.
Finding examine_ranks(const Launch& launch, const RankCheck& check);

}  // namespace minibert
