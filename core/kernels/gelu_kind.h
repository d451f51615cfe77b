// gelu_kind.h: the two forms of GELU and their cost, as plain data that every kernel may include.
// Their values in double: gelu.h; on the CPU's vectors: gelu_simd.h; on CUDA: gelu_cuda.h.
#pragma once

namespace minibert {

/// erf: x P(Z <= x), exact. tanh: the approximation of arXiv 1606.08415.
enum class Gelu { erf, tanh };

/// FLOP an element of a GELU, or of its slope: what gemm and elementwise count.
inline constexpr double kGeluFlops = 45;

}  // namespace minibert
