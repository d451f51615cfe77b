// loader.h: shards to packed micro-batches. Called by models/training and eval; prefetched by
// loader_prefetch.h. Easy to break: what a step holds is a pure function of (shards, seed, data
// step, global batch size), and how it is cut of (micro-batch size, token capacity) too: never of
// ranks, threads or what was loaded before. So resume needs the step's number alone, and 1 x 32 and
// 4 x 8 give the same samples with the same masks. Test: ctest -R loader.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/text/packed_batch.h"
#include "models/text/shard_set.h"

namespace minibert {

/// A pseudo-random order of 0 .. n-1, drawn from the stream (seed, shuffle, 0, epoch): place i of
/// the epoch shows example order(i). Eight rounds of a Feistel network on pairs (left, right) with
/// right < b = ceil(n / a), left < a = ceil(sqrt(n)), in turn
///   left += f_r[right] mod a   and   right += g_r[left] mod b
/// with tables of random numbers; places beyond n walk on. Any place is found in O(1) from tables
/// of 8 sqrt(n) numbers, so the loader can start anywhere.
class EpochOrder {
 public:
  EpochOrder(uint64_t seed, uint32_t epoch, int64_t n);
  int64_t operator()(int64_t place) const;

 private:
  static constexpr int kRounds = 8;
  int64_t n_, left_size_, right_size_;
  // [kRounds / 2, b + a]: offsets of left by right, then of right by left
  std::vector<uint32_t> tables_;
};

struct LoaderOptions {
  int64_t global_batch_size = 256;  // sequences a step
  int64_t micro_batch_size = 32;    // sequences a micro-batch, at most; divides global_batch_size
  /// Tokens a micro-batch, at most; 0 = micro_batch_size * sequence length.
  int64_t token_capacity = 0;
  uint64_t seed = 12345;
  bool nsp = true;
  /// Every micro-batch has room for token_capacity tokens, micro_batch_size sequences and as many
  /// masked rows as the data's masking settings allow in these, so that all have the same shapes (a
  /// CUDA graph needs that). Otherwise each has room for what it holds.
  bool fixed_shapes = false;
  /// Where the stream is joined: step `first_step` begins with sample `first_sample`.
  int64_t first_step = 0, first_sample = 0;
};

/// What a step holds, before any of it is decoded: the same on every rank.
struct StepPlan {
  /// Where a sample comes from: an example with the masks of an epoch.
  struct Sample {
    int64_t example = 0;
    uint32_t epoch = 0;
  };
  /// A micro-batch: samples first .. first + sequences - 1.
  struct Cut {
    int64_t first = 0, sequences = 0;
    int64_t tokens = 0;  // T
  };
  int64_t data_step = 0;
  int64_t first_sample = 0;     // number of its first sample in the stream
  int64_t masked_rows = 0;      // P_global, over all micro-batches
  int64_t sequences = 0;        // B_global
  int64_t tokens = 0;           // sum of T
  int64_t squared_lengths = 0;  // sum of S^2 over the sequences: what attention costs
  std::vector<Sample> samples;
  std::vector<Cut> cuts;
};

/// What step `data_step` holds of the infinite stream over `examples` examples: sample n is place n mod
/// N of epoch n div N. Cut in that order, into micro-batches of micro_batch_size sequences and
/// token_capacity tokens at most. masked_rows stays 0: the caller knows them.
/// length: tokens of an example.
StepPlan plan_of_stream(int64_t data_step, const LoaderOptions& options, int64_t examples,
                        const std::function<int64_t(int64_t example)>& length);

/// A step with the micro-batches that this rank computes: all of them, if it is the only one.
struct GlobalStep : StepPlan {
  std::vector<int64_t> numbers;            // which of `cuts`, ascending
  std::vector<PackedBatch> micro_batches;  // these
};

/// Where a run's steps come from. What a step holds depends on its number alone.
class StepSource {
 public:
  virtual ~StepSource() = default;
  /// Step `data_step`, from 0.
  virtual StepPlan plan(int64_t data_step) const = 0;
  /// These micro-batches of a plan, and no others.
  virtual GlobalStep load(StepPlan plan, std::vector<int64_t> numbers) const = 0;
  /// Pass over the data in which step `data_step` begins, with the share done: 2.25 = a quarter of the
  /// third pass.
  virtual double epoch_of(int64_t data_step) const = 0;
};

/// `options` with a token capacity. Errors: UsageError for a size below 1, a micro-batch that does not
/// divide the global batch, or a capacity below `length` tokens, which `whose` names.
LoaderOptions checked_sizes(LoaderOptions options, int64_t length, const std::string& whose);

/// The infinite stream of samples: sample n is place n mod N of epoch n div N, N = examples of the set.
/// Step s takes the G samples from first_sample + (s - first_step) * G on; `sample` of a sequence is
/// its number among them, so dropout's masks don't depend on packing either. Micro-batches take samples
/// in that order, as many as fit into both limits; their values are checked against the data's traits.
/// A rank reads only the micro-batches that it computes. Const and safe to share.
class Loader : public StepSource {
 public:
  /// Errors  UsageError: a size below 1, micro-batch not dividing the global batch, capacity below
  ///         the sequence length, NSP asked of data without it.
  Loader(std::shared_ptr<const ShardSet> shards, const LoaderOptions& options);

  const LoaderOptions& options() const { return options_; }
  const ShardSet& shards() const { return *shards_; }
  /// Step `data_step`, from first_step on, from the records' lengths alone.
  /// Errors: DataError if a record does not lie inside its file.
  StepPlan plan(int64_t data_step) const override;
  /// Reads these micro-batches of a plan, and no others. Errors: DataError if a record is damaged.
  GlobalStep load(StepPlan plan, std::vector<int64_t> numbers) const override;
  /// All of step `data_step`.
  GlobalStep load(int64_t data_step) const;
  double epoch_of(int64_t data_step) const override;

 private:
  std::shared_ptr<const ShardSet> shards_;
  LoaderOptions options_;
};

/// One pass over a set in its order, for evaluation: the same examples and masks each time. Dynamic
/// masks are those of the data's own seed and epoch 0. `sample` is the example's number in the set.
class EvaluationReader {
 public:
  /// As Loader's limits; token_capacity 0 = micro_batch_size * sequence length. Errors as Loader's.
  EvaluationReader(std::shared_ptr<const ShardSet> shards, int64_t micro_batch_size, bool nsp,
                   int64_t token_capacity = 0);

  /// The next micro-batch; nothing at the end.
  std::optional<PackedBatch> next();
  void rewind() { next_ = 0; }

 private:
  std::shared_ptr<const ShardSet> shards_;
  LoaderOptions limits_;
  int64_t next_ = 0;
};

}  // namespace minibert
