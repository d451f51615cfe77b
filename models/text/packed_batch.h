// packed_batch.h: a micro-batch without padding: the one thing that flows from the loader to the
// model. Made by loader.cpp (and models/bert/inference.cpp), read by models/bert. T = tokens of all
// its sequences, B = sequences, P = masked rows. Easy to break: rows beyond T (tail rows, up to the
// token capacity) belong to no sequence; cu_seqlens[B] == T says where they start.
// Test: ctest -R text_manifest (suite PackedBatch).
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace minibert {

struct StoredExample;  // models/text/shard.h

struct PackedBatch {
  Tensor ids;         // [N] i32 token ids; N >= T rows, those beyond T are tail rows (any valid id)
  Tensor segment;     // [N] i32 0 or 1
  Tensor position;    // [N] i32 position inside the sequence, from 0
  Tensor row_sample;  // [N] i32 `sample` of the row's sequence, for dropout's counter
  Tensor cu_seqlens;  // [B+1] i32 first row of each sequence; the last entry is T
  Tensor mlm_row;     // [P] i32 packed rows of the masked positions, ascending
  Tensor mlm_label;   // [P] i32 ids to predict
  Tensor nsp_label;   // [B] i32 0 = is next, 1 = random; undefined without NSP
  Tensor sample;      // [B] i32 number of the sequence within the global step

  int64_t rows() const { return ids.numel(); }                                // N
  int64_t sequences() const { return cu_seqlens.numel() - 1; }                // B
  int64_t tokens() const { return cu_seqlens.data<int32_t>()[sequences()]; }  // T
  int64_t masked_rows() const { return mlm_row.numel(); }                     // P
};

/// Packs masked examples in the given order; samples [B] are their numbers within the global step.
/// `nsp` false leaves nsp_label undefined. `rows` > T adds tail rows (zeros) up to that many.
PackedBatch pack_examples(std::span<const StoredExample> examples, std::span<const int32_t> samples,
                          bool nsp, int64_t rows = 0);

}  // namespace minibert
