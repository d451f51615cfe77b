// weight_gather.h: with --shard-optimizer, brings a step's new weights from their owners to all ranks
// while the next step's forward already runs: what gradient_buckets.h is to backward. Weights travel
// bucket by bucket from the front of the flat buffers, where forward begins:
//
//   network   | bucket 0 |  bucket 1  |  bucket 2  |  bucket 3  |
//   forward              | embeddings, layer 0 | layer 1 |wait| layer 2 ...
//
// Whoever reads a weight waits for its bucket and those before it. Owned by train_step.h, whose hooks
// at the leaves call wait_for(): so a forward, an evaluation or whatever else computes with the model
// waits for what it needs, when it first needs it. Easy to break: whoever bypasses the leaves (a
// checkpoint reads the flat buffers) or writes weights calls finish() first; all buckets begin in
// start(), so that every rank calls the same collectives in the same order whatever it reads first.
// Test: ctest -R weight_gather; train_step_ranks.
#pragma once

#include <vector>

#include "core/arena.h"
#include "models/training/communication.h"
#include "models/training/shards.h"

namespace minibert {

class WeightGather {
 public:
  /// Gathers what layers compute with: the working copy, and the masters that they read. `bucket`:
  /// elements of each but the last, as `shards` are cut. Arena, group and shards must outlive it.
  WeightGather(ProcessGroup& group, const Arena& arena,
               const std::vector<std::vector<ElementRange>>& shards, int64_t bucket);

  /// This rank's weights are about to be new, the others' old: nobody may read any before start().
  void outdate();
  /// Begins to bring all weights to all ranks.
  void start();
  /// Waits until these elements are there. Errors: CommError, naming the collective; InternalError
  /// between outdate() and start().
  void wait_for(const ElementRange& elements);
  /// Waits for all of them. Errors: as wait_for().
  void finish() { wait_for({0, arena_.table().size()}); }
  /// The time spent waiting since the last call.
  CommunicationClock take_clock();

 private:
  struct Owned {
    ElementRange elements;
    int rank;
  };
  void find_masters();

  ProcessGroup& group_;
  const Arena& arena_;
  const std::vector<std::vector<ElementRange>>& shards_;
  const int64_t elements_;                   // of a bucket
  std::vector<std::vector<Owned>> masters_;  // that layers read beside the working copy, by bucket
  std::vector<std::vector<Handle>> under_way_;  // by bucket
  size_t there_ = 0;                            // buckets that were waited for
  bool outdated_ = false;
  CommunicationClock clock_;
};

}  // namespace minibert
