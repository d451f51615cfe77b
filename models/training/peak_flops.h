// peak_flops.h: a short benchmark: the FLOP/s that this machine reaches, which the log compares a
// run's rate with. Called by run_journal.cpp at the start of a run. Test: ctest -R peak_flops.
#pragma once

namespace minibert {

/// Highest FLOP/s that one matrix product reaches here (512 cubed, best of 0.15 s): the peak that
/// rates are compared with.
double probe_peak_flops();

}  // namespace minibert
