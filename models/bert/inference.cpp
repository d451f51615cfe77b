// inference.cpp: packing, candidates and sentence vectors.
#include "models/bert/inference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/bert/hugging_face.h"  // all_finite

namespace minibert {

PackedBatch pack_sequences(std::span<const std::vector<int32_t>> sequences,
                           const BatchLimits& limits) {
  std::vector<SequenceToPack> all;
  for (const std::vector<int32_t>& ids : sequences)
    all.push_back({.ids = ids,
                   .first_segment = static_cast<int64_t>(ids.size()),
                   .sample = static_cast<int32_t>(all.size())});
  return pack(all, limits, /* nsp= */ false);
}

std::vector<size_t> group_by_tokens(std::span<const std::vector<int32_t>> sequences,
                                    int64_t capacity) {
  std::vector<size_t> ends;
  int64_t tokens = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto length = static_cast<int64_t>(sequences[i].size());
    if (i > 0 && tokens + length > capacity) {
      ends.push_back(i);
      tokens = 0;
    }
    tokens += length;
  }
  if (!sequences.empty()) ends.push_back(sequences.size());
  return ends;
}

std::vector<std::vector<Candidate>> top_candidates(const Tensor& logits, int64_t k,
                                                   int64_t ids_below,
                                                   std::span<const int32_t> among) {
  const int64_t V = logits.dim(1);
  std::vector<std::vector<Candidate>> all;
  std::vector<int32_t> ids(among.begin(), among.end());
  if (among.empty()) {
    ids.resize(static_cast<size_t>(std::min(ids_below, V)));
    std::iota(ids.begin(), ids.end(), 0);
  }
  for (int64_t p = 0; p < logits.dim(0); ++p) {
    const float* row = logits.data<float>() + p * V;
    // NaN has no place in an order: sorting it would be undefined.
    const auto* bad = std::find_if(row, row + V, [](float x) { return std::isnan(x); });
    MB_CHECK_AS(NumericError, bad == row + V,
                "candidates: logit {} of row {} is NaN, expected a number. The model's weights are "
                "damaged, or too large for their type",
                bad - row, p);
    const double largest = *std::max_element(row, row + V);
    double denominator = 0;
    for (int64_t v = 0; v < V; ++v) denominator += std::exp(row[v] - largest);
    const auto end = ids.begin() + std::min(k, std::ssize(ids));
    std::partial_sort(ids.begin(), end, ids.end(), [row](int32_t a, int32_t b) {
      return row[a] != row[b] ? row[a] > row[b] : a < b;
    });
    std::vector<Candidate>& candidates = all.emplace_back();
    for (auto id = ids.begin(); id != end; ++id) {
      candidates.push_back({*id, static_cast<float>(std::exp(row[*id] - largest) / denominator)});
    }
  }
  return all;
}

Pooling parse_pooling(const std::string& name) {
  if (name == "mean") return Pooling::mean;
  MB_CHECK(name == "cls", "pooling is \"{}\", expected mean or cls.{}", name,
           did_you_mean(name, {"mean", "cls"}));
  return Pooling::cls;
}

Tensor sentence_vectors(const Tensor& hidden, const PackedBatch& batch, Pooling pooling,
                        bool normalize) {
  const int64_t B = batch.sequences(), H = hidden.dim(1);
  const int32_t* cu_seqlens = batch.cu_seqlens.data<int32_t>();
  Tensor vectors = Tensor::empty({B, H});
  std::vector<double> sum(static_cast<size_t>(H));
  for (int64_t b = 0; b < B; ++b) {
    const int64_t first = cu_seqlens[b];
    const int64_t end = pooling == Pooling::cls ? first + 1 : cu_seqlens[b + 1];
    MB_CHECK(first < cu_seqlens[b + 1], "sentence_vectors: sequence {} has no tokens", b);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t t = first; t < end; ++t) {
      const float* row = hidden.data<float>() + t * H;
      for (int64_t h = 0; h < H; ++h) sum[static_cast<size_t>(h)] += row[h];
    }
    double divisor = static_cast<double>(end - first);
    if (normalize) {
      const double square = std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0);
      divisor = std::max(std::sqrt(square), 1e-12);  // torch.nn.functional.normalize's floor
    }
    float* vector = vectors.data<float>() + b * H;
    for (int64_t h = 0; h < H; ++h) {
      vector[h] = static_cast<float>(sum[static_cast<size_t>(h)] / divisor);
    }
    MB_CHECK_AS(NumericError, all_finite({vector, static_cast<size_t>(H)}),
                "sentence_vectors: the vector of a text holds NaN or infinity, expected numbers: "
                "states are too large for their type. Use --precision fp32 or bf16");
  }
  return vectors;
}

}  // namespace minibert
