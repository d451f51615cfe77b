// async_copy.h: cp.async, in both extremes that hardware allows: the bytes arrive at the issue, or
// not before the wait (options.h says which). Called by core/ptx.h. Easy to break: late copies read
// their source at the wait, and a thread waits only for its own copies.
// Source: PTX ISA 9.0, 9.7.9.25.3. Test: ctest -R simt_engine_async_copy.
#pragma once

#include "tools/simt/report.h"

namespace simt {

/// Of the 16 bytes the first `source_bytes` are copied, the rest are zeros.
void cp_async16(void* shared, const void* global, int source_bytes, Place place);
void cp_async_commit();
/// Completes all groups of the thread but the newest `pending`.
void cp_async_wait(int pending);

}  // namespace simt
