// labelled_loader.cpp: samples of a step, packed.
#include "models/text/labelled_loader.h"

#include <algorithm>

#include "core/error.h"
#include "models/text/checksum.h"

namespace minibert {
namespace {

SequenceToPack to_pack(const LabelledSequence& sequence, int32_t sample) {
  return {.ids = sequence.ids,
          .first_segment = sequence.first_segment,
          .sample = sample,
          .nsp_label = sequence.label,
          .span_start = sequence.span_start,
          .span_end = sequence.span_end};
}

}  // namespace

LabelledLoader::LabelledLoader(std::vector<LabelledSequence> sequences, LabelKind kind,
                               const BatchLimits& limits, const LoaderOptions& options)
    : sequences_(std::move(sequences)), kind_(kind), limits_(limits), options_(options) {
  MB_CHECK_AS(DataError, !sequences_.empty(), "training data: holds no examples");
  const bool spans = kind_ == LabelKind::span;
  for (const LabelledSequence& sequence : sequences_) {
    const SequenceToPack one[] = {to_pack(sequence, 0)};
    pack(one, limits_, /* nsp= */ !spans, {}, spans);
  }
  options_ = checked_sizes(options_, longest(), "the longest sequence of the training data");
}

int64_t LabelledLoader::tokens() const {
  int64_t sum = 0;
  for (const LabelledSequence& sequence : sequences_) sum += std::ssize(sequence.ids);
  return sum;
}

int64_t LabelledLoader::longest() const {
  int64_t most = 0;
  for (const LabelledSequence& sequence : sequences_)
    most = std::max<int64_t>(most, std::ssize(sequence.ids));
  return most;
}

std::string LabelledLoader::fingerprint() const {
  uint32_t crc = 0;
  for (const LabelledSequence& s : sequences_) {
    const int32_t head[] = {static_cast<int32_t>(s.ids.size()), s.first_segment, s.label,
                            s.span_start, s.span_end};
    crc = crc32_of(reinterpret_cast<const char*>(head), sizeof head, crc);
    crc =
        crc32_of(reinterpret_cast<const char*>(s.ids.data()), s.ids.size() * sizeof(int32_t), crc);
  }
  return fmt::format("{:08x}", crc);
}

StepPlan LabelledLoader::plan(int64_t data_step) const {
  StepPlan plan = plan_of_stream(data_step, options_, examples(), [this](int64_t example) {
    return std::ssize(sequences_[static_cast<size_t>(example)].ids);
  });
  plan.masked_rows = plan.sequences * (kind_ == LabelKind::span ? 2 : 1);
  return plan;
}

PackedBatch LabelledLoader::pack_cut(const StepPlan& plan, const StepPlan::Cut& cut) const {
  std::vector<SequenceToPack> sequences;
  for (int64_t n = cut.first; n < cut.first + cut.sequences; ++n) {
    const int64_t example = plan.samples[static_cast<size_t>(n)].example;
    sequences.push_back(to_pack(sequences_[static_cast<size_t>(example)], static_cast<int32_t>(n)));
  }
  const bool spans = kind_ == LabelKind::span;
  return pack(sequences, limits_, /* nsp= */ !spans, {}, spans);
}

GlobalStep LabelledLoader::load(StepPlan plan, std::vector<int64_t> numbers) const {
  GlobalStep step{std::move(plan), std::move(numbers), {}};
  for (const int64_t number : step.numbers)
    step.micro_batches.push_back(pack_cut(step, step.cuts[static_cast<size_t>(number)]));
  return step;
}

double LabelledLoader::epoch_of(int64_t data_step) const {
  return static_cast<double>(data_step) * static_cast<double>(options_.global_batch_size) /
         static_cast<double>(examples());
}

}  // namespace minibert
