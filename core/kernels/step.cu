// step.cu: the step's rules on the device. The rules themselves are in step_rules.h and are the
// CPU's. Called by step.cpp. Test: ctest -R kernels_step_cuda.
#include "core/cuda_kernel.h"
#include "core/kernels/step_rules.h"

namespace minibert {
namespace {

// ---- 8. Idea -----------------------------------------------------------------------------------
//   A rule is a few dozen scalar operations: one thread. Only the sums need thought. decide_step
//   adds `tensors` doubles in order (about 400 in BERT-large), and a lone thread would wait for
//   memory again and again. So a block fetches them all at once, in one round trip:
//
//     square_sums [tensors]  --256 threads-->  s_sums  --thread 0, in order-->  StepState
//
//   The kernel gives the rule a pointer to s_sums in place of square_sums; the rule does not know.
//   All is in double or rounded once, with no product that could be fused: the CPU's bits.
//   8 bytes a tensor.
// ---- 9. Rungs ----------------------------------------------------------------------------------
//   None. Without the staging, it is the rule in one thread.
// ---- 10. Production kernels ---------------------------------------------------------------------
constexpr int kThreads = 256;
constexpr int kStaged = 2048;  // sums, 16 KB; a model with more tensors reads them where they are

__global__ void begin_kernel(StepBeginArgs args) {
  begin_step(args);
}

__global__ void MB_LAUNCH_BOUNDS(kThreads) decide_kernel(StepControlArgs args) {
  MB_SHARED(double, s_sums, kStaged);
  if (args.tensors <= kStaged) {
    for (int k = static_cast<int>(threadIdx.x); k < args.tensors; k += kThreads)
      s_sums[k] = args.square_sums[k];
    __syncthreads();
    args.square_sums = s_sums;
  }
  if (threadIdx.x == 0) decide_step(args);
}

__global__ void finish_kernel(StepControlArgs args) {
  finish_step(args);
}

}  // namespace

// ---- 11. Launchers -----------------------------------------------------------------------------
void step_begin_cuda(const StepBeginArgs& args, Stream stream) {
  launch(begin_kernel, 1, 1, 0, stream, args);
}

void step_decide_cuda(const StepControlArgs& args, Stream stream) {
  launch(decide_kernel, 1, kThreads, 0, stream, args);
}

void step_finish_cuda(const StepControlArgs& args, Stream stream) {
  launch(finish_kernel, 1, 1, 0, stream, args);
}

// ---- 12. Instantiations: none, nothing here is a template ----------------------------------------

}  // namespace minibert
