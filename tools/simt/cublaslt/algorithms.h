// algorithms.h: the three algorithms that the stand-in pretends to choose from.
// 1 "plain" wants every pointer, leading dimension and batch stride at 16 bytes; 2 "split k" too,
// and a workspace, and its bits differ from the others'; 3 "any alignment" takes everything. So a
// caller meets what it meets on a GPU: choices that depend on alignment and workspace, and bits
// that depend on the choice. Test: ctest -R simt_cublaslt.
#pragma once

#include <vector>

#include "tools/simt/cublaslt/problem.h"

namespace simt {

/// What algorithms take this problem, best first.
std::vector<AlgorithmFields> algorithms_for(const Problem& problem,
                                            const PreferenceFields& preference);
size_t workspace_bytes(const Problem& problem, const AlgorithmFields& algorithm);
/// Whether the layouts, though not yet the pointers, are aligned for it.
bool layouts_fit(const Problem& problem, const AlgorithmFields& algorithm);

}  // namespace simt
