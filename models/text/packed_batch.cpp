// packed_batch.cpp: the block's layout, the check of sequences, and sequences to a packed batch.
#include "models/text/packed_batch.h"

#include <algorithm>
#include <utility>

#include "core/device_stream.h"
#include "core/kernels/copy.h"

namespace minibert {

// ---- Layout ------------------------------------------------------------------------------------

namespace {

constexpr int64_t kAlignment = 16;  // elements: each field starts on 64 bytes

/// All fields with their lengths, in their order in the block.
template <typename Visit>
void for_each_field(BatchFields& batch, const Visit& visit) {
  const BatchSizes& sizes = batch.sizes;
  const int64_t N = sizes.row_capacity, B = sizes.sequence_capacity;
  const int64_t P = sizes.masked_capacity, R = sizes.head_capacity;
  for (Tensor* field : {&batch.ids, &batch.segment, &batch.position, &batch.row_sample})
    visit(*field, N);
  visit(batch.cu_seqlens, B + 1);
  for (Tensor* field : {&batch.sample, &batch.first_row}) visit(*field, B);
  for (Tensor* field : {&batch.head_row, &batch.head_position, &batch.head_row_sample})
    visit(*field, R);
  for (Tensor* field : {&batch.mlm_index, &batch.mlm_label}) visit(*field, P);
  if (sizes.nsp) {
    for (Tensor* field : {&batch.nsp_index, &batch.nsp_label}) visit(*field, B);
  }
  if (sizes.spans) {
    visit(batch.span_source, 2 * B * sizes.span_capacity);
    visit(batch.span_place, 2 * N);
    visit(batch.span_label, 2 * B);
  }
  const auto visit_groups = [&](RowGroups& groups, int64_t rows) {
    const int64_t U = std::min(N, rows);
    visit(groups.order, N);
    visit(groups.row, U);
    visit(groups.start, U + 1);
  };
  visit_groups(batch.ids_groups, sizes.limits.vocab_size);
  visit_groups(batch.position_groups, sizes.limits.max_positions);
  visit_groups(batch.segment_groups, sizes.limits.segments);
}

int64_t aligned(int64_t elements) {
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

int64_t BatchFields::elements(const BatchSizes& sizes) {
  BatchFields batch;
  batch.sizes = sizes;
  int64_t total = 0;
  for_each_field(batch, [&](Tensor&, int64_t count) { total += aligned(count); });
  return total;
}

BatchFields::BatchFields(const BatchSizes& sizes, Tensor block)
    : sizes(sizes), block(std::move(block)) {
  int64_t next = 0;
  for_each_field(*this, [&](Tensor& field, int64_t count) {
    field = this->block.slice(next, {count});
    next += aligned(count);
  });
  if (!sizes.spans) return;
  span_source = span_source.reshape({2 * sizes.sequence_capacity, sizes.span_capacity});
  span_place = span_place.reshape({sizes.row_capacity, 2});
}

// ---- Checking ----------------------------------------------------------------------------------

namespace {

void check_ids(const SequenceToPack& sequence, size_t number, const BatchLimits& limits) {
  const auto length = static_cast<int64_t>(sequence.ids.size());
  MB_CHECK_AS(DataError, length <= limits.max_positions,
              "batch: sequence {} has {} tokens, expected at most {} (max_position_embeddings)",
              number, length, limits.max_positions);
  for (int64_t i = 0; i < length; ++i) {
    const int32_t id = sequence.ids[static_cast<size_t>(i)];
    MB_CHECK_AS(DataError, id >= 0 && id < limits.vocab_size,
                "batch: id {} of sequence {} is {}, expected 0 to {} (vocab_size of the model). "
                "Data and model do not belong together",
                i, number, id, limits.vocab_size - 1);
  }
  const int segments = sequence.first_segment < length ? 2 : 1;
  MB_CHECK_AS(DataError, segments <= limits.segments,
              "batch: sequence {} has {} segments, expected at most {} (type_vocab_size)", number,
              segments, limits.segments);
}

void check_masks(const SequenceToPack& sequence, size_t number, const BatchLimits& limits) {
  MB_ASSERT(sequence.masked_positions.size() == sequence.masked_labels.size(),
            "pack: {} masked positions, {} labels", sequence.masked_positions.size(),
            sequence.masked_labels.size());
  const auto length = static_cast<int64_t>(sequence.ids.size());
  int32_t least = 0;
  for (size_t k = 0; k < sequence.masked_positions.size(); ++k) {
    const int32_t position = sequence.masked_positions[k], label = sequence.masked_labels[k];
    MB_CHECK_AS(DataError, position >= least && position < length,
                "batch: masked position of sequence {} is {}, expected {} to {}, ascending", number,
                position, least, length - 1);
    MB_CHECK_AS(DataError, label >= 0 && label < limits.vocab_size,
                "batch: label of masked position {} of sequence {} is {}, expected 0 to {} "
                "(vocab_size of the model)",
                position, number, label, limits.vocab_size - 1);
    least = position + 1;
  }
}

void check_nsp(const SequenceToPack& sequence, size_t number, const BatchLimits& limits) {
  MB_CHECK_AS(DataError, !sequence.ids.empty(),
              "batch: sequence {} has no tokens, expected at least [CLS]", number);
  const bool known = sequence.nsp_label >= 0 && sequence.nsp_label < limits.classes;
  MB_CHECK_AS(DataError, known || limits.classes != 2,
              "batch: next-sentence label of sequence {} is {}, expected 0 or 1", number,
              sequence.nsp_label);
  MB_CHECK_AS(DataError, known, "batch: class of sequence {} is {}, expected 0 to {}", number,
              sequence.nsp_label, limits.classes - 1);
}

void check_span(const SequenceToPack& sequence, size_t number) {
  const int32_t start = sequence.span_start, end = sequence.span_end;
  MB_CHECK_AS(DataError, start >= 0 && start <= end && end < std::ssize(sequence.ids),
              "batch: the answer of sequence {} is tokens {} to {}, expected some inside its {}",
              number, start, end, sequence.ids.size());
}

}  // namespace

// ---- Packing -----------------------------------------------------------------------------------

namespace {

/// Writes a batch field by field, in the order of rows. All counters are of what has been written.
class Packer {
 public:
  explicit Packer(const PackedBatch& batch) : batch_(batch) {
    for (const Tensor* list :
         {&batch.first_row, &batch.head_row, &batch.mlm_index, &batch.mlm_label, &batch.nsp_index,
          &batch.nsp_label, &batch.span_place, &batch.span_label}) {
      if (list->defined()) std::ranges::fill(list->span<int32_t>(), -1);
    }
    if (batch.sizes.spans)
      std::ranges::fill(batch.span_source.span<int32_t>(), static_cast<int32_t>(2 * batch.rows()));
  }

  void add(const SequenceToPack& sequence) {
    add_heads(sequence);
    if (batch_.sizes.spans) add_span(sequence);
    const auto length = static_cast<int32_t>(sequence.ids.size());
    if (length > 0) at(batch_.first_row, sequence_) = row_;
    for (int32_t j = 0; j < length; ++j, ++row_) {
      at(batch_.ids, row_) = sequence.ids[static_cast<size_t>(j)];
      at(batch_.segment, row_) = j >= sequence.first_segment;
      at(batch_.position, row_) = j;
      at(batch_.row_sample, row_) = sequence.sample;
    }
    at(batch_.sample, sequence_) = sequence.sample;
    at(batch_.cu_seqlens, ++sequence_) = row_;
  }

  /// Sequences that fill the room up are empty.
  void finish() {
    const std::span<int32_t> ends = batch_.cu_seqlens.span<int32_t>();
    std::fill(ends.begin() + sequence_ + 1, ends.end(), row_);
    const BatchLimits& limits = batch_.sizes.limits;
    group(batch_.ids, limits.vocab_size, batch_.ids_groups);
    group(batch_.position, limits.max_positions, batch_.position_groups);
    group(batch_.segment, limits.segments, batch_.segment_groups);
  }

 private:
  void group(const Tensor& index, int64_t rows, const RowGroups& groups) const {
    group_rows(
        index.span<int32_t>(), rows, row_,
        {groups.order.span<int32_t>(), groups.row.span<int32_t>(), groups.start.span<int32_t>()});
  }

  static int32_t& at(const Tensor& field, int32_t i) { return field.data<int32_t>()[i]; }

  // The rows that the heads read of a sequence that starts at row_.
  void add_heads(const SequenceToPack& sequence) {
    if (batch_.sizes.nsp) {
      at(batch_.nsp_label, sequence_) = sequence.nsp_label;
      if (!sequence.ids.empty()) at(batch_.nsp_index, sequence_) = head(sequence, 0);
    }
    for (size_t k = 0; k < sequence.masked_positions.size(); ++k, ++masked_) {
      at(batch_.mlm_index, masked_) = head(sequence, sequence.masked_positions[k]);
      at(batch_.mlm_label, masked_) = sequence.masked_labels[k];
    }
  }

  // The lines of a sequence that starts at row_.
  void add_span(const SequenceToPack& sequence) {
    const auto S = static_cast<int32_t>(batch_.sizes.span_capacity);
    const auto length = static_cast<int32_t>(sequence.ids.size());
    for (int32_t which = 0; which < 2; ++which) {
      const int32_t line = 2 * sequence_ + which;
      at(batch_.span_label, line) = which == 0 ? sequence.span_start : sequence.span_end;
      for (int32_t s = 0; s < length; ++s) {
        const int32_t score = 2 * (row_ + s) + which, place = line * S + s;
        at(batch_.span_source, place) = score;
        at(batch_.span_place, score) = place;
      }
    }
  }

  // The place of a position's row in head_row. A first row may be masked too.
  int32_t head(const SequenceToPack& sequence, int32_t position) {
    const int32_t row = row_ + position;
    if (heads_ > 0 && at(batch_.head_row, heads_ - 1) == row) return heads_ - 1;
    at(batch_.head_row, heads_) = row;
    at(batch_.head_position, heads_) = position;
    at(batch_.head_row_sample, heads_) = sequence.sample;
    return heads_++;
  }

  const PackedBatch& batch_;
  int32_t row_ = 0, sequence_ = 0, masked_ = 0, heads_ = 0;
};

BatchSizes sizes_of(std::span<const SequenceToPack> sequences, const BatchLimits& limits, bool nsp,
                    const BatchCapacity& capacity, bool spans) {
  BatchSizes sizes;
  sizes.limits = limits;
  sizes.nsp = nsp;
  sizes.spans = spans;
  sizes.sequences = static_cast<int64_t>(sequences.size());
  int64_t heads = 0;
  for (const SequenceToPack& sequence : sequences) {
    const auto length = static_cast<int64_t>(sequence.ids.size());
    const auto masked = static_cast<int64_t>(sequence.masked_positions.size());
    sizes.tokens += length;
    sizes.squared_lengths += length * length;
    sizes.masked_rows += masked;
    if (spans) sizes.span_capacity = std::max(sizes.span_capacity, length);
    const bool first_is_masked = masked > 0 && sequence.masked_positions[0] == 0;
    heads += masked + (nsp && length > 0 && !first_is_masked);
  }
  const auto room = [](int64_t wanted, int64_t needed) { return wanted > 0 ? wanted : needed; };
  sizes.row_capacity = room(capacity.rows, sizes.tokens);
  sizes.sequence_capacity = room(capacity.sequences, sizes.sequences);
  sizes.masked_capacity = room(capacity.masked_rows, sizes.masked_rows);
  const bool fixed = capacity.masked_rows > 0 && capacity.sequences > 0;
  sizes.head_capacity = fixed ? sizes.masked_capacity + (nsp ? sizes.sequence_capacity : 0) : heads;
  MB_ASSERT(sizes.row_capacity >= sizes.tokens && sizes.sequence_capacity >= sizes.sequences,
            "pack: {} tokens and {} sequences, room for {} and {}", sizes.tokens, sizes.sequences,
            sizes.row_capacity, sizes.sequence_capacity);
  MB_CHECK_AS(
      DataError, sizes.masked_capacity >= sizes.masked_rows,
      "batch: {} masked rows in {} sequences of {} tokens, expected at most {}, going by the "
      "data's masking settings. Build the data again",
      sizes.masked_rows, sizes.sequences, sizes.tokens, sizes.masked_capacity);
  return sizes;
}

}  // namespace

PackedBatch pack(std::span<const SequenceToPack> sequences, const BatchLimits& limits, bool nsp,
                 const BatchCapacity& capacity, bool spans) {
  for (size_t b = 0; b < sequences.size(); ++b) {
    check_ids(sequences[b], b, limits);
    check_masks(sequences[b], b, limits);
    if (nsp) check_nsp(sequences[b], b, limits);
    if (spans) check_span(sequences[b], b);
  }
  const BatchSizes sizes = sizes_of(sequences, limits, nsp, capacity, spans);
  PackedBatch batch(
      sizes, Tensor::empty({BatchFields::elements(sizes)}, DType::i32, MemoryCategory::data));
  std::ranges::fill(batch.block.span<int32_t>(), 0);
  Packer packer(batch);
  for (const SequenceToPack& sequence : sequences) packer.add(sequence);
  packer.finish();
  return batch;
}

// ---- To the device -----------------------------------------------------------------------------

DeviceBatch upload(const PackedBatch& batch, Device device) {
  DeviceBatch there(batch.sizes, Tensor::empty(batch.block.shape(), DType::i32,
                                               MemoryCategory::workspace, device));
  copy_to_device(batch.block.raw(), there.block);
  hold_until_passed(batch.block);
  return there;
}

}  // namespace minibert
