// symbols.h: the name of a function from its address, for reports: kernels are mostly static, and
// only the binary's own symbol table knows those. cudaFuncGetName, which the CUDA runtime would answer
// from the same knowledge, is defined here too. Test: ctest -R simt_engine_launch.
#pragma once

#include <string>

namespace simt {

/// "cast_rows<float, __half>": without namespaces and parameters. "kernel at 0x..." in a stripped
/// binary.
std::string symbol_name(const void* function);

}  // namespace simt
