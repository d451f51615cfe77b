// cuda_absent.cpp: the CUDA kernels of a build that has none: each says so. A CUDA build compiles
// the chapters' .cu files instead of this one. Test: ctest -R core_device.
#include "core/device.h"
#include "core/error.h"
#include "core/kernels/attention.h"
#include "core/kernels/cast.h"
#include "core/kernels/copy.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/optimizer.h"
#include "core/kernels/reduce.h"
#include "core/kernels/step.h"

namespace minibert {
namespace {

[[noreturn]] void absent(const char* op) {
  fail<UsageError>("{}: called on device cuda, but {}", op, cuda_unavailable_reason());
}

}  // namespace

/// MB_ABSENT(cast, CastArgs): void cast_cuda(const CastArgs&, Stream)
#define MB_ABSENT(name, Args)             \
  void name##_cuda(const Args&, Stream) { \
    absent(#name);                        \
  }
/// MB_ABSENT_RUNG(cast, CastArgs): void cast_cuda_rung(const CastArgs&, Stream, int)
#define MB_ABSENT_RUNG(name, Args)                  \
  void name##_cuda_rung(const Args&, Stream, int) { \
    absent(#name);                                  \
  }

MB_ABSENT(attention_forward, AttentionForward)
MB_ABSENT_RUNG(attention_forward, AttentionForward)
MB_ABSENT(attention_backward, AttentionBackward)
MB_ABSENT(cast, CastArgs)
MB_ABSENT_RUNG(cast, CastArgs)
MB_ABSENT(gather_rows, GatherRows)
MB_ABSENT_RUNG(gather_rows, GatherRows)
MB_ABSENT(scatter_add_rows, ScatterAddRows)
MB_ABSENT(zero_bytes, Operand)
void copy_bytes_cuda(const Operand&, const Operand&, Stream) {
  absent("copy");
}
void copy_to_device_cuda(const void*, const Operand&, Stream) {
  absent("copy_to_device");
}
void copy_to_host_cuda(const Operand&, void*, Stream) {
  absent("copy_to_host");
}
void cross_entropy_forward_cuda(const CrossEntropyForward&, LossCounts*, Stream) {
  absent("cross_entropy_forward");
}
void cross_entropy_forward_cuda_rung(const CrossEntropyForward&, LossCounts*, Stream, int) {
  absent("cross_entropy_forward");
}
MB_ABSENT(cross_entropy_backward, CrossEntropyBackward)
MB_ABSENT_RUNG(cross_entropy_backward, CrossEntropyBackward)
MB_ABSENT(gelu_forward, GeluForward)
MB_ABSENT(gelu_backward, GeluBackward)
MB_ABSENT(tanh_forward, TanhForward)
MB_ABSENT(tanh_backward, TanhBackward)
MB_ABSENT(add_forward, AddForward)
MB_ABSENT(multiply, MultiplyArgs)
MB_ABSENT(scale, ScaleArgs)
MB_ABSENT(add_bias, AddBiasForward)
MB_ABSENT(dropout_rows, DropoutRows)
MB_ABSENT(fill, FillArgs)
MB_ABSENT(fill_from, FillFromArgs)
MB_ABSENT(embedding_forward, EmbeddingForward)
MB_ABSENT(embedding_backward, EmbeddingBackward)
MB_ABSENT_RUNG(embedding_forward, EmbeddingForward)
MB_ABSENT_RUNG(embedding_backward, EmbeddingBackward)
MB_ABSENT(gemm, GemmArgs)
bool gemm_cuda_fuses(const GemmArgs&, Stream) {
  absent("gemm");
}
void gemm_cuda_rung(const GemmArgs&, Stream, GemmRung) {
  absent("gemm");
}
void gemm_cuda_planned(const GemmArgs&, Stream, GemmPlan) {
  absent("gemm");
}
void gemm_cuda_use(GemmCudaBackend) {
  absent("gemm_cuda_use");
}
GemmCudaBackend gemm_cuda_backend() {
  absent("gemm_cuda_backend");
}
std::string gemm_cuda_implementation() {
  return "";
}
std::string gemm_cuda_implementation(GemmCudaBackend) {
  return "";
}
std::string gemm_cuda_choices() {
  return "";
}
GemmCudaChoiceCount gemm_cuda_choice_count() {
  return {};
}
void gemm_cuda_time_new_forms(bool) {}
void gemm_cuda_load_choices(const std::string&) {
  absent("gemm_cuda_load_choices");
}
MB_ABSENT(layer_norm_forward, LayerNormForward)
MB_ABSENT_RUNG(layer_norm_forward, LayerNormForward)
MB_ABSENT(layer_norm_backward, LayerNormBackward)
MB_ABSENT_RUNG(layer_norm_backward, LayerNormBackward)
MB_ABSENT(piece_square_sums, SquareSumsArgs)
MB_ABSENT(tensor_square_sums, SquareSumsArgs)
MB_ABSENT(gradient_scales, GradientScalesArgs)
MB_ABSENT(optimizer_norms, OptimizerArgs)
MB_ABSENT(optimizer_moments, OptimizerArgs)
MB_ABSENT(optimizer_ratios, OptimizerArgs)
MB_ABSENT(optimizer_apply, OptimizerArgs)
MB_ABSENT(optimizer_step, OptimizerArgs)
MB_ABSENT_RUNG(optimizer_moments, OptimizerArgs)
MB_ABSENT_RUNG(optimizer_apply, OptimizerArgs)
MB_ABSENT(column_sum, ColumnSumArgs)
MB_ABSENT_RUNG(column_sum, ColumnSumArgs)
MB_ABSENT(sum, SumArgs)
MB_ABSENT(step_begin, StepBeginArgs)
MB_ABSENT(step_decide, StepControlArgs)
MB_ABSENT(step_finish, StepControlArgs)

}  // namespace minibert
