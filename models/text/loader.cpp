// loader.cpp: order of an epoch, samples of a step, cutting into micro-batches. See loader.h.
#include "models/text/loader.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace minibert {

LoaderOptions checked_sizes(LoaderOptions options, int64_t length, const std::string& whose) {
  MB_CHECK(options.global_batch_size >= 1,
           "loader: global batch size is {}, expected at least 1. Set --global-batch-size.",
           options.global_batch_size);
  MB_CHECK(
      options.micro_batch_size >= 1 && options.global_batch_size % options.micro_batch_size == 0,
      "loader: micro-batch size is {}, expected a divisor of the global batch size {}. Change "
      "--micro-batch-size or "
      "--global-batch-size.",
      options.micro_batch_size, options.global_batch_size);
  if (options.token_capacity == 0) options.token_capacity = options.micro_batch_size * length;
  MB_CHECK(options.token_capacity >= length,
           "loader: token capacity is {}, expected at least {} ({}). Raise it.",
           options.token_capacity, length, whose);
  return options;
}

namespace {

LoaderOptions checked(LoaderOptions options, const ShardSet& shards) {
  options = checked_sizes(options, shards.traits().sequence_length,
                          "the sequence length of " + shards.folder().string());
  MB_CHECK(!options.nsp || shards.traits().nsp,
           "{}: data has no next-sentence pairs, expected pairs (training with NSP). Train with "
           "--no-nsp, or build the data "
           "without --no-nsp.",
           shards.folder().string());
  return options;
}

/// Number in the stream of the first sample of a step.
int64_t first_sample_in(int64_t data_step, const LoaderOptions& options) {
  return options.first_sample + (data_step - options.first_step) * options.global_batch_size;
}

/// How many of `lengths`, from `first` on, make the next micro-batch. At least one.
size_t fitting(std::span<const int32_t> lengths, size_t first, const LoaderOptions& limits) {
  int64_t tokens = 0;
  size_t end = first;
  while (end < lengths.size() && static_cast<int64_t>(end - first) < limits.micro_batch_size) {
    tokens += lengths[end];
    if (tokens > limits.token_capacity) break;
    ++end;
  }
  return end - first;
}

/// Room of every micro-batch, or none where each takes what it needs.
BatchCapacity capacity_of(const LoaderOptions& options, const ShardSet& shards) {
  if (!options.fixed_shapes) return {};
  // masked_count() of a sequence is at most its length times the share, and one; and at most
  // max_predictions.
  const MaskingOptions& masking = shards.manifest().settings.masking;
  const auto share =
      static_cast<int64_t>(masking.masked_lm_prob * static_cast<double>(options.token_capacity));
  const int64_t sequences = options.micro_batch_size;
  return {options.token_capacity, sequences,
          std::min(sequences * masking.max_predictions, share + sequences)};
}

/// Packs examples; their values must keep to what the data says of itself.
PackedBatch pack_examples(std::span<const StoredExample> examples, std::span<const int32_t> samples,
                          const LoaderOptions& options, const ShardSet& shards) {
  std::vector<SequenceToPack> sequences;
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& example = examples[i].example;
    sequences.push_back({.ids = example.ids,
                         .first_segment = example.first_segment,
                         .sample = samples[i],
                         .masked_positions = examples[i].masked_positions,
                         .masked_labels = examples[i].masked_labels,
                         .nsp_label = example.nsp_label});
  }
  const ShardTraits& traits = shards.traits();
  const BatchLimits limits{traits.vocab_size, traits.sequence_length, traits.nsp ? 2 : 1};
  return pack(sequences, limits, options.nsp, capacity_of(options, shards));
}

}  // namespace

// ---- Order of an epoch -------------------------------------------------------------------------

EpochOrder::EpochOrder(uint64_t seed, uint32_t epoch, int64_t n) : n_(n) {
  MB_ASSERT(n >= 1, "epoch order of {} examples", n);
  left_size_ = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(n))));
  right_size_ = (n + left_size_ - 1) / left_size_;
  RandomStream stream(seed, StreamPurpose::shuffle, 0, epoch);
  tables_.reserve(static_cast<size_t>(kRounds / 2 * (left_size_ + right_size_)));
  for (int round = 0; round < kRounds / 2; ++round) {
    for (int64_t r = 0; r < right_size_; ++r)
      tables_.push_back(stream.below(static_cast<uint32_t>(left_size_)));
    for (int64_t l = 0; l < left_size_; ++l)
      tables_.push_back(stream.below(static_cast<uint32_t>(right_size_)));
  }
}

int64_t EpochOrder::operator()(int64_t place) const {
  MB_ASSERT(place >= 0 && place < n_, "epoch order: place {} of {}", place, n_);
  int64_t at = place;
  do {  // a place beyond n leads back into 0 .. n-1 in the end, since each pass is a permutation of
        // a * b places
    int64_t left = at / right_size_, right = at % right_size_;
    const uint32_t* table = tables_.data();
    for (int round = 0; round < kRounds / 2; ++round) {
      left = (left + table[right]) % left_size_;
      table += right_size_;
      right = (right + table[left]) % right_size_;
      table += left_size_;
    }
    at = left * right_size_ + right;
  } while (at >= n_);
  return at;
}

// ---- Training ----------------------------------------------------------------------------------

Loader::Loader(std::shared_ptr<const ShardSet> shards, const LoaderOptions& options)
    : shards_(std::move(shards)), options_(checked(options, *shards_)) {}

double Loader::epoch_of(int64_t data_step) const {
  return static_cast<double>(first_sample_in(data_step, options_)) /
         static_cast<double>(shards_->examples());
}

namespace {

std::vector<StepPlan::Sample> samples_of(int64_t data_step, const LoaderOptions& options,
                                         int64_t examples) {
  const int64_t first = first_sample_in(data_step, options),
                end = first + options.global_batch_size;
  std::vector<StepPlan::Sample> samples;
  samples.reserve(static_cast<size_t>(options.global_batch_size));
  for (int64_t n = first; n < end;) {
    const int64_t epoch = n / examples, epoch_end = (epoch + 1) * examples;
    const EpochOrder order(options.seed, static_cast<uint32_t>(epoch), examples);
    for (; n < std::min(end, epoch_end); ++n)
      samples.push_back({order(n - epoch * examples), static_cast<uint32_t>(epoch)});
  }
  return samples;
}

}  // namespace

StepPlan plan_of_stream(int64_t data_step, const LoaderOptions& options, int64_t examples,
                        const std::function<int64_t(int64_t)>& length_of) {
  MB_ASSERT(data_step >= 0, "loader: data step {}", data_step);
  StepPlan plan;
  plan.data_step = data_step;
  plan.first_sample = first_sample_in(data_step, options);
  plan.sequences = options.global_batch_size;
  plan.samples = samples_of(data_step, options, examples);
  std::vector<int32_t> lengths;
  lengths.reserve(plan.samples.size());
  for (const StepPlan::Sample& sample : plan.samples) {
    const int64_t length = length_of(sample.example);
    lengths.push_back(static_cast<int32_t>(length));
    plan.tokens += length;
    plan.squared_lengths += length * length;
  }
  for (size_t first = 0; first < lengths.size();) {
    const size_t count = fitting(lengths, first, options);
    const auto cut = std::span(lengths).subspan(first, count);
    plan.cuts.push_back({.first = static_cast<int64_t>(first),
                         .sequences = static_cast<int64_t>(count),
                         .tokens = std::accumulate(cut.begin(), cut.end(), int64_t{0})});
    first += count;
  }
  return plan;
}

StepPlan Loader::plan(int64_t data_step) const {
  StepPlan plan = plan_of_stream(data_step, options_, shards_->examples(),
                                 [this](int64_t example) { return shards_->length(example); });
  for (const auto& [example, epoch] : plan.samples)
    plan.masked_rows += shards_->masked(example, options_.seed, epoch);
  return plan;
}

GlobalStep Loader::load(StepPlan plan, std::vector<int64_t> numbers) const {
  GlobalStep step{std::move(plan), std::move(numbers), {}};
  for (const int64_t number : step.numbers) {
    const StepPlan::Cut& cut = step.cuts[static_cast<size_t>(number)];
    std::vector<StoredExample> examples;
    std::vector<int32_t> samples;
    for (int64_t n = cut.first; n < cut.first + cut.sequences; ++n) {
      const auto& [example, epoch] = step.samples[static_cast<size_t>(n)];
      examples.push_back(shards_->read_masked(example, options_.seed, epoch));
      samples.push_back(static_cast<int32_t>(n));
    }
    step.micro_batches.push_back(pack_examples(examples, samples, options_, *shards_));
  }
  return step;
}

GlobalStep Loader::load(int64_t data_step) const {
  StepPlan all = plan(data_step);
  std::vector<int64_t> numbers(all.cuts.size());
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return load(std::move(all), std::move(numbers));
}

// ---- Evaluation --------------------------------------------------------------------------------

EvaluationReader::EvaluationReader(std::shared_ptr<const ShardSet> shards, int64_t micro_batch_size,
                                   bool nsp, int64_t token_capacity)
    : shards_(std::move(shards)) {
  limits_.global_batch_size = limits_.micro_batch_size = micro_batch_size;
  limits_.token_capacity = token_capacity;
  limits_.nsp = nsp;
  limits_ = checked(limits_, *shards_);
}

std::optional<PackedBatch> EvaluationReader::next() {
  const int64_t left = shards_->examples() - next_;
  if (left <= 0) return std::nullopt;
  std::vector<StoredExample> samples;
  std::vector<int32_t> numbers, lengths;
  for (int64_t i = 0; i < std::min(left, limits_.micro_batch_size); ++i) {
    samples.push_back(shards_->read_masked(next_ + i, shards_->manifest().settings.seed, 0));
    numbers.push_back(static_cast<int32_t>(next_ + i));
    lengths.push_back(static_cast<int32_t>(samples.back().example.ids.size()));
  }
  const size_t count = fitting(lengths, 0, limits_);
  next_ += static_cast<int64_t>(count);
  return pack_examples(std::span(samples).first(count), std::span(numbers).first(count), limits_,
                       *shards_);
}

}  // namespace minibert
