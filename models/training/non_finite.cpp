// non_finite.cpp: the second look at a bad step.
#include "models/training/non_finite.h"

#include <cmath>
#include <optional>

#include "autograd/tape.h"

namespace minibert {
namespace {

/// The first value that is not finite.
struct Finding {
  std::string op, what;
  Shape shape;
  int64_t row = 0;  // of its first dimension
};

/// Index of the first element that is not finite, or -1.
int64_t first_bad(const Tensor& value) {
  const Tensor wide = on_host(value);
  const auto values = wide.span<float>();
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) return static_cast<int64_t>(i);
  return -1;
}

/// Which sequence a row of the batch belongs to, as its number within the step.
std::optional<int64_t> sample_of(const PackedBatch& batch, int64_t row) {
  if (row >= batch.tokens()) return std::nullopt;
  return batch.row_sample.data<int32_t>()[row];
}

std::string samples(const Finding& found, const PackedBatch& batch, int64_t first_of_step) {
  if (found.shape.rank() > 0 && found.shape[0] == batch.rows()) {
    if (const auto sample = sample_of(batch, found.row))
      return fmt::format("sample {}", first_of_step + *sample);
  }
  const auto numbers = batch.sample.span<int32_t>();
  if (batch.sequences() == 0) return "no sample";
  const auto last = numbers[static_cast<size_t>(batch.sequences() - 1)];
  return fmt::format("samples {} to {}", first_of_step + numbers.front(), first_of_step + last);
}

}  // namespace

std::string find_non_finite(TrainStep& step, const GlobalStep& batch, int64_t data_step) {
  std::optional<Finding> found;
  size_t current = 0, at = 0;
  const ObserverScope scope([&](const char* op, const char* what, const Tensor& value) {
    if (found || !is_floating(value.dtype())) return;
    const int64_t bad = first_bad(value);
    if (bad < 0) return;
    const int64_t rows = value.rank() > 0 ? value.dim(0) : 1;
    found = Finding{op, what, value.shape(), bad / std::max<int64_t>(1, value.numel() / rows)};
    at = current;
  });
  step.accumulate(batch, data_step, [&](size_t micro_batch) {
    current = micro_batch;
    return found.has_value();
  });
  if (!found) return "";
  return fmt::format(
      "op {}, its {} {}, {} (of micro-batch {})", found->op, found->what, found->shape.str(),
      samples(*found, batch.micro_batches[at], batch.first_sample), batch.numbers[at]);
}

}  // namespace minibert
