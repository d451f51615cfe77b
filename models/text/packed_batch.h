// packed_batch.h: a micro-batch without padding between its sequences: the one thing that flows from
// the loader to the model. It is one block of i32 with views into it, so that one copy brings it to
// a device. Made and checked by pack(), for loader.cpp, models/bert/inference.cpp and `bench step`
// alike; then upload() and models/bert, which looks at no value again. Whatever the model would have
// to look up or sort is made here: the rows that the heads read, and each embedding row's positions.
// Easy to break: rows from T on (tail rows) belong to no sequence and hold zeros, and unused entries
// of a list of rows or labels are -1: whoever reads such a list skips them.
// Test: ctest -R packed_batch.
#pragma once

#include <cstdint>
#include <span>

#include "core/row_groups.h"
#include "core/tensor.h"

namespace minibert {

/// One sequence as pack() takes it. Spans are read during the call alone.
struct SequenceToPack {
  std::span<const int32_t> ids;
  int64_t first_segment = 0;  // tokens of segment 0, at the front; the others are segment 1
  int32_t sample = 0;         // number of the sequence within the global step
  std::span<const int32_t> masked_positions = {};  // ascending, 0-based in the sequence
  std::span<const int32_t> masked_labels = {};     // ids to predict there
  int32_t nsp_label = -1;                          // 0 = is next, 1 = random; or a class
  int32_t span_start = -1, span_end = -1;          // tokens of the answer, both included
};

/// Room of a micro-batch. 0: as much as its sequences need. Batches of the same room have the same
/// shapes everywhere in the model.
struct BatchCapacity {
  int64_t rows = 0;         // N, tokens
  int64_t sequences = 0;    // B'
  int64_t masked_rows = 0;  // P'
};

/// What the values of a batch stay below: rows of the embedding tables.
struct BatchLimits {
  int64_t vocab_size = 0;     // ids and masked labels
  int64_t max_positions = 0;  // tokens of a sequence, at most
  int64_t segments = 2;
  int64_t classes = 2;  // nsp_label
  bool operator==(const BatchLimits&) const = default;

  /// Whether values below `other` are below these too.
  bool include(const BatchLimits& other) const {
    return other.vocab_size <= vocab_size && other.max_positions <= max_positions &&
           other.segments <= segments && other.classes <= classes;
  }
};

struct BatchSizes {
  // What there is
  int64_t tokens = 0;           // T
  int64_t sequences = 0;        // B
  int64_t masked_rows = 0;      // P
  int64_t squared_lengths = 0;  // sum of S^2 over the sequences: what attention costs
  bool nsp = false;
  bool spans = false;
  BatchLimits limits;  // its values were found to stay below these
  // Room for it
  int64_t row_capacity = 0;       // N >= T
  int64_t sequence_capacity = 0;  // B' >= B
  int64_t masked_capacity = 0;    // P' >= P
  int64_t head_capacity = 0;      // R: P' + B' at most
  int64_t span_capacity = 0;      // S: tokens of the longest sequence; 0 without spans

  /// Whether batches of both have the same shapes everywhere in the model.
  bool same_room(const BatchSizes& other) const {
    return row_capacity == other.row_capacity && sequence_capacity == other.sequence_capacity &&
           masked_capacity == other.masked_capacity && head_capacity == other.head_capacity &&
           nsp == other.nsp && spans == other.spans && span_capacity == other.span_capacity &&
           limits == other.limits;
  }
};

/// Views of one block of memory, the host's or a device's.
struct BatchFields {
  BatchSizes sizes;
  Tensor block;  // i32, all of the fields

  // Rows of the model. Rows from T on: zeros.
  Tensor ids;         // [N] token ids
  Tensor segment;     // [N] 0 or 1
  Tensor position;    // [N] position inside the sequence, from 0
  Tensor row_sample;  // [N] `sample` of the row's sequence, for dropout's counter
  // Sequences. Those from B on are empty: cu_seqlens repeats T, the others hold 0 or -1.
  Tensor cu_seqlens;  // [B'+1] first row of each sequence; the last entry is T
  Tensor sample;      // [B'] number of the sequence within the global step
  Tensor first_row;   // [B'] row of each sequence's first token; -1: it has none
  // Rows that the heads of pre-training read: masked rows and, with NSP, first rows. Each row once.
  Tensor head_row;         // [R] ascending, then -1
  Tensor head_position;    // [R] `position` and
  Tensor head_row_sample;  // [R] `row_sample` of these rows
  Tensor mlm_index;        // [P'] places of the masked rows in head_row, ascending, then -1
  Tensor mlm_label;        // [P'] ids to predict, then -1
  Tensor nsp_index;  // [B'] places of the first rows in head_row, or -1; undefined without NSP
  Tensor nsp_label;  // [B'] 0 = is next, 1 = random, or a class; -1; undefined without NSP
  // Scores [N, 2] of question answering as lines of a matrix, and back; undefined without spans. Line
  // 2b has the scores of being the answer's first token of sequence b's rows, 2b + 1 those of the last.
  Tensor span_source;  // [2B', S] element of the scores; 2N beyond the sequence's end
  Tensor span_place;   // [N, 2] element of the lines; -1 in tail rows
  Tensor span_label;   // [2B'] position inside the sequence, or -1
  // For the gradients of the embedding tables: the T rows by id, position and segment.
  RowGroups ids_groups, position_groups, segment_groups;

  BatchFields() = default;
  /// Lays the fields out in `block`, of elements(sizes) i32.
  BatchFields(const BatchSizes& sizes, Tensor block);
  static int64_t elements(const BatchSizes& sizes);

  int64_t rows() const { return sizes.row_capacity; }        // N
  int64_t tokens() const { return sizes.tokens; }            // T
  int64_t sequences() const { return sizes.sequences; }      // B
  int64_t masked_rows() const { return sizes.masked_rows; }  // P
};

/// On the host.
struct PackedBatch : BatchFields {
  using BatchFields::BatchFields;
};

/// In a device's memory: the host must not look into its fields, only at `sizes`.
struct DeviceBatch : BatchFields {
  using BatchFields::BatchFields;
};

/// Packs sequences in the given order. `nsp`: with a label of each sequence: next-sentence labels, or
/// a classifier's. `spans`: with the answers' places.
/// Errors  DataError naming value, place and limit: an id, segment or masked label outside the
///         limits, a sequence that is too long, masked positions that do not ascend inside their
///         sequence, more of them than there is room for; with `nsp`, a label outside the limits, or
///         an empty sequence; with `spans`, an answer outside its sequence.
PackedBatch pack(std::span<const SequenceToPack> sequences, const BatchLimits& limits, bool nsp,
                 const BatchCapacity& capacity = {}, bool spans = false);

/// A copy in the device's memory: one transfer.
DeviceBatch upload(const PackedBatch& batch, Device device);

}  // namespace minibert
