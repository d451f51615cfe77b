// gloo_group_absent.cpp: a build without Gloo says how to get it.
#include "core/error.h"
#include "dist/gloo_group.h"

namespace minibert {

std::unique_ptr<ProcessGroup> gloo_group(Store&, const GlooOptions&) {
  fail<UsageError>(
      "gloo: this build has no Gloo, which ranks on CPUs need. Install it with: apt-get install "
      "libgloo-dev, then configure and build again");
}

bool gloo_available() {
  return false;
}

}  // namespace minibert
