// fault_report.h: says on stderr which device allocation a faulting address belongs to.
// Called by memory.cpp when it reserves device memory. The report comes before whatever the
// process would do anyway: the former handler of SIGSEGV (ASan's, the engine's) or death.
// Easy to break: the handler takes no lock. Test: ctest -R simt_memory.
#pragma once

namespace simt {

/// Once a process; later calls do nothing.
void install_fault_report();

}  // namespace simt
