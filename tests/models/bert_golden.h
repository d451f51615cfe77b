// bert_golden.h: what tests read from the goldens that tools/goldens/bert.py and ddp.py wrote: weights,
// packed batches, gradients with PyTorch's own error. Easy to break: the bounds come from
// tests/tolerance.h and from PyTorch, never from what we compute.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/bert/bert.h"
#include "models/bert/safetensors.h"
#include "tests/models/batch_fields.h"
#include "tests/tolerance.h"

namespace minibert::testing {

/// The batch whose fields have names that begin with `prefix`.
inline PackedBatch read_golden_batch(const SafetensorsFile& golden, const std::string& prefix,
                                     const BatchLimits& limits) {
  const auto read = [&](const char* field) { return values(golden.read(prefix + field)); };
  const auto ids = read("ids"), segment = read("segment"), cu_seqlens = read("cu_seqlens"),
             mlm_row = read("mlm_row"), mlm_label = read("mlm_label"),
             nsp_label = read("nsp_label"), sample = read("sample");
  std::vector<int32_t> position = mlm_row;  // of the masked rows, in their sequences
  std::vector<SequenceToPack> sequences;
  size_t masked = 0;
  for (size_t b = 0; b < sample.size(); ++b) {
    const auto first = static_cast<size_t>(cu_seqlens[b]);
    const auto length = static_cast<size_t>(cu_seqlens[b + 1]) - first, first_masked = masked;
    for (; masked < mlm_row.size() && mlm_row[masked] < cu_seqlens[b + 1]; ++masked)
      position[masked] -= cu_seqlens[b];
    const auto segments = std::span(segment).subspan(first, length);
    sequences.push_back(
        {.ids = std::span(ids).subspan(first, length),
         .first_segment = std::count(segments.begin(), segments.end(), 0),
         .sample = sample[b],
         .masked_positions = std::span(position).subspan(first_masked, masked - first_masked),
         .masked_labels = std::span(mlm_label).subspan(first_masked, masked - first_masked),
         .nsp_label = nsp_label[b]});
  }
  return pack(sequences, limits, /* nsp= */ true);
}

/// "weights/NAME" of every parameter.
inline void read_golden_weights(const SafetensorsFile& golden, BertForPreTraining& model) {
  const ParameterTable& table = model.arena().table();
  for (int i = 0; i < table.count(); ++i) {
    std::vector<float> weights(static_cast<size_t>(table[i].used()));
    golden.read_f32("weights/" + table[i].name, weights);
    model.arena().write(i, weights);
  }
  model.arena().refresh();
}

inline double norm(std::span<const float> x) {
  double sum = 0;
  for (float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

inline double relative_norm_error(std::span<const float> got, std::span<const float> expected) {
  double sum = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - expected[i];
    sum += difference * difference;
  }
  return std::sqrt(sum) / norm(expected);
}

/// The gradient of one parameter by name, without padding rows.
inline std::span<const float> gradient_of(const BertForPreTraining& model,
                                          const std::string& name) {
  const int number = model.arena().table().find(name);
  return model.arena().gradient(number).span<float>().first(
      static_cast<size_t>(model.arena().table()[number].used()));
}

/// Each gradient against "PREFIXgradient/NAME" of the golden: |g - g64| / |g64| at most twice
/// PyTorch's own float32 error. `zero`: parameters whose gradient is zero in exact arithmetic, each
/// with one that says how small.
inline void expect_golden_gradients(const SafetensorsFile& golden, const std::string& prefix,
                                    const BertForPreTraining& model,
                                    const std::map<std::string, std::string>& zero = {}) {
  double worst = 0;
  std::string worst_name;
  for (const ParameterSlice& slice : model.arena().table().slices()) {
    const std::span<const float> got = gradient_of(model, slice.name);
    if (slice.name.ends_with("key.bias")) {
      // Mathematically zero: a constant added to all of a row's scores leaves its softmax alone.
      const std::string query = slice.name.substr(0, slice.name.size() - 8) + "query.bias";
      EXPECT_LE(norm(got), Tolerance::zero_gradient * norm(gradient_of(model, query)))
          << slice.name;
      continue;
    }
    if (const auto found = zero.find(slice.name); found != zero.end()) {
      EXPECT_LE(norm(got), Tolerance::zero_gradient * norm(gradient_of(model, found->second)))
          << slice.name;
      continue;
    }
    std::vector<float> expected(got.size()), pytorch_error(1);
    golden.read_f32(prefix + "gradient/" + slice.name, expected);
    golden.read_f32(prefix + "fp32_error/" + slice.name, pytorch_error);
    const double error = relative_norm_error(got, expected);
    const double allowed = std::max(2.0 * pytorch_error[0], Tolerance::model_gradient_floor);
    EXPECT_LE(error, allowed) << slice.name << ": PyTorch's own error is " << pytorch_error[0];
    if (error / allowed > worst) worst = error / allowed, worst_name = slice.name;
  }
  ::testing::Test::RecordProperty("worst_share_of_tolerance", fmt::format("{:.3f}", worst));
  fmt::print("{}gradients: largest share of tolerance {:.2f} at {}\n", prefix, worst, worst_name);
}

}  // namespace minibert::testing
