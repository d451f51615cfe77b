// memory_transport.h: ranks that are threads of one process: a mailbox for each pair of them. For
// tests of what runs over a transport. Easy to break: a rank whose transport is destroyed is gone,
// and those who wait for it learn so at once. Test: ctest -R dist_ring.
#pragma once

#include <memory>
#include <vector>

#include "dist/transport.h"

namespace minibert {

/// One transport for each of `world` ranks; finish() waits at most `timeout` seconds.
std::vector<std::unique_ptr<Transport>> memory_transports(int world, double timeout);

}  // namespace minibert
