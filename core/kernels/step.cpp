// step.cpp: checks, cost and the callers of the step's rules. Contract: step.h.
#include "core/kernels/step.h"

#include "core/dispatch.h"
#include "core/error.h"
#include "core/kernels/step_rules.h"

namespace minibert {
namespace {

void check(const char* op, const StepControlArgs& args) {
  MB_ASSERT(args.state != nullptr && args.rates != nullptr && args.square_sums != nullptr,
            "{}: state, rates or square_sums is not given", op);
  MB_CHECK(args.max_steps >= 1, "{}: max_steps is {}, expected 1 or more (rows of the table)", op,
           args.max_steps);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
Cost step_control_cost(const StepControlArgs& args) {
  const double tensors = args.tensors;
  return {tensors, tensors * sizeof(double)};
}

// ---- 7. CPU ------------------------------------------------------------------------------------
void step_begin(const StepBeginArgs& args) {
  MB_ASSERT(args.state != nullptr, "step_begin: state is not given");
  dispatch(
      "step_begin", args.device, [] { return Cost{}; }, [&] { begin_step(args); },
      [&](Stream stream) { step_begin_cuda(args, stream); });
}

void step_decide(const StepControlArgs& args) {
  check("step_decide", args);
  dispatch(
      "step_decide", args.device, [&] { return step_control_cost(args); },
      [&] { decide_step(args); }, [&](Stream stream) { step_decide_cuda(args, stream); });
}

void step_finish(const StepControlArgs& args) {
  check("step_finish", args);
  dispatch(
      "step_finish", args.device, [] { return Cost{}; }, [&] { finish_step(args); },
      [&](Stream stream) { step_finish_cuda(args, stream); });
}

}  // namespace minibert
