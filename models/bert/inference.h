// inference.h: using a BERT: pack texts, look at masked places, make sentence vectors.
// Called by the verbs fill-mask and embed. Nothing here pads: sequences lie one after the other.
// Easy to break: probabilities are over the model's whole vocabulary, and `mean` counts [CLS] and
// [SEP] too, as sentence-transformers does. Test: ctest -R models_bert_inference.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/bert/bert.h"

namespace minibert {

/// A batch of token id sequences, special tokens included: segment 0, positions from 0, no labels.
/// `limits` are the model's. Errors as pack()'s.
PackedBatch pack_sequences(std::span<const std::vector<int32_t>> sequences,
                           const BatchLimits& limits);

/// Ends of consecutive groups of sequences (each end is the next group's start), so that a group
/// has at most `capacity` tokens; a longer sequence is a group of its own.
std::vector<size_t> group_by_tokens(std::span<const std::vector<int32_t>> sequences,
                                    int64_t capacity);

struct Candidate {
  int32_t id;
  float probability;  // softmax over the vocabulary
};
/// The `k` most probable ids of each row of logits [P, V] f32, best first, equal ones by id. Ids from
/// `ids_below` on are never listed (a model may have more rows than its vocabulary has tokens).
/// `among`: different ids below that, the only ones that are listed; empty: all.
/// Errors: NumericError for a logit that is NaN.
std::vector<std::vector<Candidate>> top_candidates(const Tensor& logits, int64_t k,
                                                   int64_t ids_below,
                                                   std::span<const int32_t> among = {});

enum class Pooling { mean, cls };
/// "mean" or "cls". Errors: UsageError for another name.
Pooling parse_pooling(const std::string& name);
/// One vector a sequence: the mean of its hidden rows, or its first row; `normalize` divides by the
/// Euclidean norm.  hidden [N, H] f32, on the host; result [B, H].
/// Errors: UsageError for an empty sequence; NumericError for a vector that is not finite.
Tensor sentence_vectors(const Tensor& hidden, const PackedBatch& batch, Pooling pooling,
                        bool normalize);

}  // namespace minibert
