// gemm_onednn.cpp: plain matrix multiplication by oneDNN's sgemm.
// Called by gemm.cpp. sgemm copies panels of both matrices into blocks by itself, so that a leading
// dimension of 3,072 does no harm. Its matmul primitive was tried on the shapes of BERT-base (one
// thread of a Zen 4): with row-major operands it is 2 to 30 % slower; with weights reordered into
// its own layout the product is -7 to 11 % faster, but reordering at each call costs more than that
// wins. Speed: build/cpu/bin/gemm_bench.
// The bits may depend on the thread count: oneDNN may split K.
#include <dnnl.hpp>

#include "core/error.h"
#include "core/kernels/gemm_backend.h"

namespace minibert {
namespace {

const char* name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "other instruction set";
  }
}

}  // namespace

bool gemm_onednn_available() {
  return true;
}

void gemm_onednn(const GemmProblem& p) {
  const int64_t a_stride = p.transpose_a ? p.M : p.K, b_stride = p.transpose_b ? p.K : p.N;
  const dnnl_status_t status = dnnl_sgemm(
      p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.M, p.N, p.K,
      /* alpha= */ 1.0f, p.a, a_stride, p.b, b_stride, p.accumulate ? 1.0f : 0.0f, p.c, p.N);
  MB_ASSERT(status == dnnl_success, "gemm: oneDNN answers {} for [{}, {}] = [{}, {}] x [{}, {}]",
            static_cast<int>(status), p.M, p.N, p.M, p.K, p.K, p.N);
}

std::string gemm_onednn_description() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} ({})", version->major, version->minor, version->patch,
                     name_of(dnnl::get_effective_cpu_isa()));
}

}  // namespace minibert
