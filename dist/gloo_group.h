// gloo_group.h: a process group over Gloo, for ranks that compute on CPUs: TCP between every two of
// them. Gloo's collectives run in a thread of the group (queued_group.h); sums of all types are
// dist/elements.h's. Without Gloo, gloo_group_absent.cpp answers. Easy to break: every rank makes its
// groups in the same order, from one store. Test: ctest -R dist_gloo_group.
#pragma once

#include <memory>

#include "dist/queued_group.h"
#include "dist/store.h"

namespace minibert {

struct GlooOptions {
  int rank = 0, world = 1;
  /// Where this rank listens, as other ranks can reach it: a number or a name, IPv4 or IPv6.
  std::string address = "127.0.0.1";
  std::string interface = {};  // instead, by the name of a network interface: "eth0"
  double timeout = 60;         // seconds without progress after which a collective fails
  Blame blame = nullptr;
};

/// Connects to all other ranks, whose addresses it learns through `store`, which it needs only here.
/// Errors: CommError if another rank can't be reached within the time-out; UsageError if the build
/// has no Gloo, or if there is no such address here.
std::unique_ptr<ProcessGroup> gloo_group(Store& store, const GlooOptions& options);
/// Whether this build has Gloo.
bool gloo_available();

}  // namespace minibert
