// peak_flops.h: how many FLOP/s this machine reaches in a large matrix product, measured: what the
// rates of a run are compared with ("61% of peak"). Called by run_journal.cpp and `bench step`. Easy
// to break: zeros switch no transistors, and a GPU multiplies them faster than it ever trains.
// Test: ctest -R peak_flops.
#pragma once

#include "core/precision.h"

namespace minibert {

/// FLOP/s of products as training runs them: of this type, on this device. On device cuda: by whom
/// gemm_cuda_backend() allows, and the thread must have a DeviceStream. Takes about 0.2 s.
double probe_peak_flops(const ComputeOptions& compute);

}  // namespace minibert
