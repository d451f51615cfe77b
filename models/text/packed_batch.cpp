// packed_batch.cpp: examples to a packed batch, row after row, without padding. See packed_batch.h.
#include "models/text/packed_batch.h"

#include "models/text/shard.h"

namespace minibert {
namespace {

Tensor make(int64_t count) {
  return Tensor::zeros(Shape{count}, DType::i32, MemoryCategory::data);
}

}  // namespace

PackedBatch pack_examples(std::span<const StoredExample> examples, std::span<const int32_t> samples,
                          bool nsp, int64_t rows) {
  int64_t tokens = 0, masked = 0;
  for (const StoredExample& stored : examples) {
    tokens += static_cast<int64_t>(stored.example.ids.size());
    masked += static_cast<int64_t>(stored.masked_positions.size());
  }
  MB_ASSERT(samples.size() == examples.size() && (rows == 0 || rows >= tokens),
            "pack: {} samples, {} examples, {} rows", samples.size(), examples.size(), rows);
  const int64_t n = std::max(rows, tokens), b = static_cast<int64_t>(examples.size());
  PackedBatch batch{make(n),      make(n),      make(n), make(n), make(b + 1),
                    make(masked), make(masked), {},      make(b)};
  if (nsp) batch.nsp_label = make(b);
  int32_t* ids = batch.ids.data<int32_t>();                // [N]
  int32_t* segment = batch.segment.data<int32_t>();        // [N]
  int32_t* position = batch.position.data<int32_t>();      // [N]
  int32_t* row_sample = batch.row_sample.data<int32_t>();  // [N]
  int32_t* cu_seqlens = batch.cu_seqlens.data<int32_t>();  // [B+1]
  int32_t* mlm_row = batch.mlm_row.data<int32_t>();        // [P]
  int32_t* mlm_label = batch.mlm_label.data<int32_t>();    // [P]
  int32_t row = 0, p = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const Example& example = examples[i].example;
    for (size_t k = 0; k < examples[i].masked_positions.size(); ++k, ++p) {
      mlm_row[p] = row + examples[i].masked_positions[k];
      mlm_label[p] = examples[i].masked_labels[k];
    }
    const auto length = static_cast<int32_t>(example.ids.size());
    for (int32_t j = 0; j < length; ++j, ++row) {
      ids[row] = example.ids[static_cast<size_t>(j)];
      segment[row] = j >= example.first_segment;
      position[row] = j;
      row_sample[row] = samples[i];
    }
    cu_seqlens[i + 1] = row;
    batch.sample.data<int32_t>()[i] = samples[i];
    if (nsp) batch.nsp_label.data<int32_t>()[i] = example.nsp_label;
  }
  return batch;
}

}  // namespace minibert
