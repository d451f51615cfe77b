// agreement.h: what the ranks of a run tell each other besides gradients: after each step, their loss
// counts and whether one of them was asked to stop or to save; in a step, whether to drop it; in an
// evaluation, whether to cut it off; at the start, the state from which rank 0 resumes. Called by
// trainer.cpp and evaluation.cpp. Easy to break: whatever decides what a rank does next must come from
// here, or be the same on all ranks anyway; a decision of one rank alone leaves the others waiting.
// Test: ctest -R training_agreement.
#pragma once

#include <string>

#include "core/step_state.h"
#include "dist/process_group.h"
#include "models/bert/bert.h"
#include "models/training/checkpoint.h"
#include "optim/optimizer.h"

namespace minibert {

struct Agreement {
  LossCounts mlm = {}, nsp = {};  // sums over the step's micro-batches
  bool stop = false;              // a signal asked for it
  bool save = false;
};
/// Counts are summed over ranks; `stop` and `save` if any rank says so. Errors: CommError.
Agreement agree(ProcessGroup& ranks, const Agreement& mine);

/// Whether any rank says so. Errors: CommError.
bool any_rank(ProcessGroup& ranks, bool mine);

/// Weights, moments and counters of rank 0, on all ranks: only rank 0 has to reach the checkpoint.
/// Errors: CommError.
void share_start(ProcessGroup& ranks, TrainerState& state, BertForPreTraining& model,
                 Optimizer& optimizer);

/// `text` becomes that of rank 0.
void share_text(ProcessGroup& ranks, std::string& text);

}  // namespace minibert
