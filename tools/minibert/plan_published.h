// plan_published.h: --published and the flags that go with it, of `minibert plan`.
#pragma once

#include <string>
#include <vector>

namespace minibert {

struct PublishedOptions {
  std::string published, cluster;  // names or files; cluster may be empty: the same
  std::string run;                 // of the published ones; empty: the last
  std::vector<double> within;      // minutes; empty: the run's own
  bool json = false;
};

/// Errors: UsageError, as fit_published(); if no number of devices is enough.
void print_published(const PublishedOptions& o);

}  // namespace minibert
