// reference.cpp: the ops' formulas as plain loops in double (reference.h).
#include "autograd/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/kernels/attention.h"
#include "core/kernels/dropout_mask.h"

namespace minibert::plain {

Step each(const std::function<double(double)>& f) {
  return {[f](const std::vector<Doubles>& in) {
    Doubles y(in.back().size());
    std::transform(in.back().begin(), in.back().end(), y.begin(), f);
    return y;
  }};
}

Step gelu(Gelu kind) {
  if (kind == Gelu::erf)
    return each([](double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); });
  return each([](double x) {
    const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + std::tanh(inner));
  });
}

Step tanh() {
  Step step = each([](double x) { return std::tanh(x); });
  step.from_result = [](const Doubles&, const Doubles& y, const Doubles& dy) {
    Doubles dx = dy;
    for (size_t i = 0; i < dx.size(); ++i) dx[i] *= 1 - y[i] * y[i];
    return dx;
  };
  return step;
}

Doubles add(const Doubles& a, const Doubles& b) {
  Doubles y(a.size());
  std::transform(a.begin(), a.end(), b.begin(), y.begin(), std::plus<>());
  return y;
}

Doubles add_bias(const Doubles& x, const Doubles& bias) {
  Doubles y(x.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] + bias[i % bias.size()];
  return y;
}

Doubles linear(const Doubles& x, const Doubles& weight, const Doubles& bias, int64_t T, int64_t N,
               int64_t K) {
  Doubles y(static_cast<size_t>(T * N));
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < N; ++n) {
      double total = bias.empty() ? 0 : bias[n];
      for (int64_t k = 0; k < K; ++k) total += x[t * K + k] * weight[n * K + k];
      y[t * N + n] = total;
    }
  }
  return y;
}

Doubles dropout(const Doubles& x, int64_t T, int64_t H, const RowPlaces& places,
                const Dropout& dropout) {
  Doubles y(x.size());
  for (int64_t i = 0; i < T * H; ++i)
    y[i] = dropped(
        x[i], hidden_dropout_factor(dropout, places.position, places.row_sample, i / H, i % H));
  return y;
}

Doubles layer_norm(const Doubles& x, const Doubles& weight, const Doubles& beta, int64_t T,
                   int64_t H, double eps) {
  Doubles y(x.size());
  for (int64_t t = 0; t < T; ++t) {
    const double* row = x.data() + t * H;
    double mean = 0, variance = 0;
    for (int64_t h = 0; h < H; ++h) mean += row[h] / H;
    for (int64_t h = 0; h < H; ++h) variance += (row[h] - mean) * (row[h] - mean) / H;
    for (int64_t h = 0; h < H; ++h)
      y[t * H + h] = (row[h] - mean) / std::sqrt(variance + eps) * weight[h] + beta[h];
  }
  return y;
}

namespace {

// One query of one head of a sequence of S tokens, whose first row is `first`: out [D].
struct Query {
  int64_t first, S, A, D, head, i;
  int32_t sample;

  double at(const Doubles& qkv, int64_t row, int which, int64_t d) const {
    return qkv[(((first + row) * 3 + which) * A + head) * D + d];
  }
  double score(const Doubles& qkv, int64_t j) const {
    double dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += at(qkv, i, 0, d) * at(qkv, j, 1, d);
    return dot / std::sqrt(static_cast<double>(D));
  }
  void attend(const Doubles& qkv, const Dropout& dropout, Doubles& out) const {
    Doubles weight(static_cast<size_t>(S));
    double largest = -INFINITY, total = 0;
    for (int64_t j = 0; j < S; ++j) largest = std::max(largest, weight[j] = score(qkv, j));
    for (double& w : weight) total += w = std::exp(w - largest);
    for (int64_t j = 0; j < S; ++j) {
      for (int64_t d = 0; d < D; ++d)
        out[((first + i) * A + head) * D + d] +=
            weight[j] / total * attention_dropout_factor(dropout, i, j, head, sample) *
            at(qkv, j, 2, d);
    }
  }
};

Tensor tensor_of(const Doubles& values, Shape shape) {
  return Tensor::from<float>(std::vector<float>(values.begin(), values.end()), shape);
}

}  // namespace

Step attention(const Sequences& sequences, int64_t N, int64_t A, int64_t D,
               const Dropout& dropout) {
  const auto forward = [=](const std::vector<Doubles>& in) {
    Doubles out(static_cast<size_t>(N * A * D), 0.0);
    const int32_t *cu = sequences.cu_seqlens.data<int32_t>(),
                  *sample = sequences.sample.data<int32_t>();
    for (int64_t b = 0; b + 1 < sequences.cu_seqlens.numel(); ++b)
      for (int64_t head = 0; head < A; ++head)
        for (int64_t i = 0; i < cu[b + 1] - cu[b]; ++i)
          Query{cu[b], cu[b + 1] - cu[b], A, D, head, i, sample[b]}.attend(in.back(), dropout, out);
    return out;
  };
  const auto backward = [=](const Doubles& qkv, const Doubles& out, const Doubles& dout) {
    const Shape rows{N, A, D}, triples{N, 3, A, D};
    const Tensor x = tensor_of(qkv, triples), y = tensor_of(out, rows), dy = tensor_of(dout, rows),
                 dx = Tensor::empty(triples), lse = Tensor::zeros({N, A});
    attention_backward_reference({x, y, lse, dy, dx, sequences.cu_seqlens, sequences.sample,
                                  1 / std::sqrt(static_cast<float>(D)), dropout});
    return Doubles(dx.span<float>().begin(), dx.span<float>().end());
  };
  return {forward, backward};
}

double cross_entropy(const Doubles& logits, const Tensor& label, int64_t V, int64_t classes) {
  double loss = 0;
  for (int64_t p = 0; p < label.numel(); ++p) {
    const int32_t of_row = label.data<int32_t>()[p];
    if (of_row < 0) continue;
    const double* row = logits.data() + p * V;
    const double largest = *std::max_element(row, row + classes);
    double total = 0;
    for (int64_t v = 0; v < classes; ++v) total += std::exp(row[v] - largest);
    loss += largest + std::log(total) - row[of_row];
  }
  return loss;
}

double span_loss(const Doubles& scores, const std::vector<int64_t>& lengths, const Tensor& label) {
  double loss = 0;
  int64_t row = 0;
  for (size_t b = 0; b < lengths.size(); row += lengths[b++]) {
    for (int64_t which = 0; which < 2; ++which) {
      Doubles line;
      for (int64_t s = 0; s < lengths[b]; ++s)
        line.push_back(scores[static_cast<size_t>(2 * (row + s) + which)]);
      const Tensor right = label.rows(2 * static_cast<int64_t>(b) + which, 1);
      loss += cross_entropy(line, right, lengths[b], lengths[b]);
    }
  }
  return loss;
}

}  // namespace minibert::plain
