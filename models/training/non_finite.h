// non_finite.h: where a step's first NaN or infinity came from: the op, the tensor, the samples.
// Called by trainer.cpp when a run has to stop; it runs the step's micro-batches again, looking at
// every result and gradient, so that the report names the cause and not the last victim. Easy to
// break: weights must be those of the bad step (a skipped step leaves them alone), and dropout's
// counter makes the second run draw the same masks. Test: ctest -R train_step.
#pragma once

#include <string>

#include "models/training/train_step.h"

namespace minibert {

/// "op attention, its result [64, 128], sample 1234 (of micro-batch 2)"; empty if everything is
/// finite this time. Samples are numbers of the stream: data step * sequences a step + sample.
/// Overwrites the gradients and `step`'s counts.
std::string find_non_finite(TrainStep& step, const GlobalStep& batch, int64_t data_step);

}  // namespace minibert
