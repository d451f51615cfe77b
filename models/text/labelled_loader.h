// labelled_loader.h: labelled sequences to packed micro-batches: what the loader of shards is for
// pre-training, for fine-tuning, whose data fit into memory. Called by models/training (finetune.h).
// Easy to break: as in loader.h: what a step holds is a pure function of (sequences, seed, data step,
// batch sizes), so resume needs the step's number alone; and nothing is padded, whatever the lengths.
// Test: ctest -R labelled_loader.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/text/loader.h"

namespace minibert {

/// A sequence with what is to be learnt of it: a class, or an answer's place.
struct LabelledSequence {
  std::vector<int32_t> ids;
  int32_t first_segment = 0;               // tokens of segment 0, at the front
  int32_t label = -1;                      // class
  int32_t span_start = -1, span_end = -1;  // tokens of the answer, both included
};

enum class LabelKind { class_of_sequence, span };

class LabelledLoader : public StepSource {
 public:
  /// `limits`: the model's. Errors: UsageError as Loader's; DataError naming the first sequence whose
  /// values the model does not have.
  LabelledLoader(std::vector<LabelledSequence> sequences, LabelKind kind, const BatchLimits& limits,
                 const LoaderOptions& options);

  int64_t examples() const { return std::ssize(sequences_); }
  int64_t tokens() const;           // of all sequences
  int64_t longest() const;          // tokens of the longest one
  std::string fingerprint() const;  // a checksum over all ids and labels

  /// masked_rows of a plan: rows with a label, one or two a sequence.
  StepPlan plan(int64_t data_step) const override;
  GlobalStep load(StepPlan plan, std::vector<int64_t> numbers) const override;
  double epoch_of(int64_t data_step) const override;

 private:
  PackedBatch pack_cut(const StepPlan& plan, const StepPlan::Cut& cut) const;

  std::vector<LabelledSequence> sequences_;
  LabelKind kind_;
  BatchLimits limits_;
  LoaderOptions options_;
};

}  // namespace minibert
