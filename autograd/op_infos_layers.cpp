// op_infos_layers.cpp: what is known of linear layers, norms, attention and losses, beside their
// code: formula in double, composed twin, random inputs at several sizes, what is saved. One
// function a sample, one entry an op in the list at the end, in the order of autograd/ops.h. Read
// through op_info.h. Easy to break: as in op_infos_simple.cpp. Test: ctest -R autograd_op_info.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "autograd/composed.h"
#include "autograd/loss_meter.h"
#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "autograd/reference.h"

namespace minibert {
namespace {

using Inputs = std::vector<Doubles>;
using Lengths = std::vector<int64_t>;

// ---- Linear layers -----------------------------------------------------------------------------

OpSample linear_sample(SampleMaker make, int64_t T, int64_t N, int64_t K, bool has_bias) {
  return {
      .sizes = fmt::format("T={} N={} K={}{}", T, N, K, has_bias ? "" : " no bias"),
      .inputs = {make.values({T, K}), make.values({N, K}), has_bias ? make.values({N}) : Tensor()},
      .forward = [](const Variables& in) { return linear(in[0], in[1], in[2]); },
      .reference = {[=](const Inputs& in) { return plain::linear(in[0], in[1], in[2], T, N, K); }}};
}

// x, weight and bias of a layer whose result an activation follows.
std::vector<Tensor> activated_layer(SampleMaker& make, int64_t T, int64_t N, int64_t K) {
  const bool alone = T * N == 1;
  return {make.values({T, K}, 0.5), make.values({N, K}, 0.5 / std::sqrt(1.0 * K)),
          alone ? make.values({N}, 0.1, 1) : make.values({N}, 0.5)};
}

OpSample linear_gelu_sample(SampleMaker make, int64_t T, int64_t N, int64_t K, Gelu kind) {
  return {
      .sizes = fmt::format("T={} N={} K={} {}", T, N, K, kind == Gelu::erf ? "erf" : "tanh"),
      .inputs = activated_layer(make, T, N, K),
      .forward = [=](const Variables& in) { return linear_gelu(in[0], in[1], in[2], kind); },
      .reference = {[=](const Inputs& in) { return plain::linear(in[0], in[1], in[2], T, N, K); },
                    plain::gelu(kind)},
      .composed =
          [=](const Variables& in) { return composed::linear_gelu(in[0], in[1], in[2], kind); },
      .saved_bytes = make.bytes(T * N)};
}

OpSample linear_tanh_sample(SampleMaker make, int64_t T, int64_t N, int64_t K) {
  return {
      .sizes = fmt::format("T={} N={} K={}", T, N, K),
      .inputs = activated_layer(make, T, N, K),
      .forward = [](const Variables& in) { return linear_tanh(in[0], in[1], in[2]); },
      .reference = {[=](const Inputs& in) { return plain::linear(in[0], in[1], in[2], T, N, K); },
                    plain::tanh()},
      .composed = [](const Variables& in) { return composed::linear_tanh(in[0], in[1], in[2]); }};
}

// ---- Normalisation -----------------------------------------------------------------------------

OpSample layer_norm_sample(SampleMaker make, int64_t T, int64_t H, float eps) {
  return {
      .sizes = fmt::format("T={} H={} eps={}", T, H, eps),
      .inputs = {make.values({T, H}, 2, 0.5), make.f32_values({H}, 0.5, 1), make.f32_values({H})},
      .forward = [=](const Variables& in) { return layer_norm(in[0], in[1], in[2], eps); },
      .reference = {[=](const Inputs& in) {
        return plain::layer_norm(in[0], in[1], in[2], T, H, eps);
      }},
      .saved_bytes = 2 * 4 * T};
}

// The end of a sublayer. Numbers of inputs; x is the last tensor unless it has a number too.
struct AddNormInputs {
  size_t bias, residual, weight, beta;
  int x = -1;
};

Formula add_norm_formula(const AddNormInputs& at, int64_t T, int64_t H, const RowPlaces& places,
                         const Dropout& site, float eps) {
  return {[=](const Inputs& in) {
            return plain::add_bias(at.x < 0 ? in.back() : in[static_cast<size_t>(at.x)],
                                   in[at.bias]);
          },
          [=](const Inputs& in) { return plain::dropout(in.back(), T, H, places, site); },
          [=](const Inputs& in) { return plain::add(in[at.residual], in.back()); },
          [=](const Inputs& in) {
            return plain::layer_norm(in.back(), in[at.weight], in[at.beta], T, H, eps);
          }};
}

OpSample add_norm_sample(SampleMaker make, int64_t T, int64_t H, float p, float eps) {
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  return {.sizes = fmt::format("T={} H={} p={}", T, H, p),
          .inputs = {make.values({T, H}), make.values({H}), make.values({T, H}),
                     make.f32_values({H}, 0.5, 1), make.f32_values({H})},
          .forward =
              [=, places = make.there(places), site = make.there(site)](const Variables& in) {
                return add_norm(in[0], in[1], in[2], {in[3], in[4], eps}, places, site);
              },
          .reference = add_norm_formula({1, 2, 3, 4, 0}, T, H, places, site, eps),
          .composed =
              [=](const Variables& in) {
                return composed::add_norm(in[0], in[1], in[2], {in[3], in[4], eps}, places, site);
              },
          .saved_bytes = make.bytes(T * H) + 2 * 4 * T};
}

OpSample linear_add_norm_sample(SampleMaker make, int64_t T, int64_t H, int64_t K, float p,
                                float eps) {
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  Formula reference{[=](const Inputs& in) { return plain::linear(in[0], in[1], {}, T, H, K); }};
  for (const Step& step : add_norm_formula({2, 3, 4, 5}, T, H, places, site, eps))
    reference.push_back(step);
  return {
      .sizes = fmt::format("T={} H={} K={} p={}", T, H, K, p),
      .inputs = {make.values({T, K}), make.values({H, K}, 1 / std::sqrt(1.0 * K)), make.values({H}),
                 make.values({T, H}), make.f32_values({H}, 0.5, 1), make.f32_values({H})},
      .forward =
          [=, places = make.there(places), site = make.there(site)](const Variables& in) {
            return linear_add_norm(in[0], in[1], in[2], in[3], {in[4], in[5], eps}, places, site);
          },
      .reference = reference,
      .composed =
          [=](const Variables& in) {
            return composed::linear_add_norm(in[0], in[1], in[2], in[3], {in[4], in[5], eps},
                                             places, site);
          },
      .saved_bytes = make.bytes(T * H) + 2 * 4 * T};
}

OpSample feed_forward_add_norm_sample(SampleMaker make, int64_t T, int64_t H, int64_t F, Gelu kind,
                                      float p, float eps) {
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  Formula reference{[=](const Inputs& in) { return plain::linear(in[0], in[1], in[2], T, F, H); },
                    plain::gelu(kind),
                    [=](const Inputs& in) { return plain::linear(in.back(), in[3], {}, T, H, F); }};
  for (const Step& step : add_norm_formula({4, 0, 5, 6}, T, H, places, site, eps))
    reference.push_back(step);
  return {
      .sizes =
          fmt::format("T={} H={} F={} {} p={}", T, H, F, kind == Gelu::erf ? "erf" : "tanh", p),
      .inputs = {make.values({T, H}), make.values({F, H}, 0.5 / std::sqrt(1.0 * H)),
                 make.values({F}, 0.3, F == 1 ? 1 : 0), make.values({H, F}, 1 / std::sqrt(1.0 * F)),
                 make.values({H}), make.f32_values({H}, 0.5, 1), make.f32_values({H})},
      .forward =
          [=, places = make.there(places), site = make.there(site)](const Variables& in) {
            return feed_forward_add_norm(in[0], in[1], in[2], in[3], in[4], kind,
                                         {in[5], in[6], eps}, places, site);
          },
      .reference = reference,
      .composed =
          [=](const Variables& in) {
            return composed::feed_forward_add_norm(in[0], in[1], in[2], in[3], in[4], kind,
                                                   {in[5], in[6], eps}, places, site);
          },
      .saved_bytes = 2 * make.bytes(T * F) + make.bytes(T * H) + 2 * 4 * T};
}

// ---- Attention ---------------------------------------------------------------------------------

std::string attention_sizes(int64_t N, int A, int64_t D, const Lengths& lengths, float p) {
  const std::string which = lengths.size() > 4 ? fmt::format("{} sequences", lengths.size())
                                               : fmt::format("lengths={}", fmt::join(lengths, ","));
  return fmt::format("N={} A={} D={} {} p={}", N, A, D, which, p);
}

// N rows; those behind the sequences are tail rows.
OpSample attention_sample(SampleMaker make, int64_t N, int A, int64_t D, Lengths lengths, float p) {
  const Sequences sequences = make.sequences(lengths);
  const Dropout site = make.dropout(p);
  return {.sizes = attention_sizes(N, A, D, lengths, p),
          .inputs = {make.values({N, 3 * A * D})},
          .forward = [=, sequences = make.there(sequences), site = make.there(site)](
                         const Variables& in) { return attention(in[0], sequences, A, site); },
          .reference = {plain::attention(sequences, N, A, D, site)},
          .saved_bytes = 4 * N * A};
}

OpSample qkv_attention_sample(SampleMaker make, int64_t N, int A, int64_t D, Lengths lengths,
                              float p) {
  const Sequences sequences = make.sequences(lengths);
  const Dropout site = make.dropout(p);
  const int64_t H = A * D;
  return {.sizes = attention_sizes(N, A, D, lengths, p),
          .inputs = {make.values({N, H}), make.values({3 * H, H}, 1 / std::sqrt(1.0 * H)),
                     make.values({3 * H})},
          .forward =
              [=, sequences = make.there(sequences), site = make.there(site)](const Variables& in) {
                return qkv_attention(in[0], in[1], in[2], sequences, A, site);
              },
          .reference = {[=](const Inputs& in) {
                          return plain::linear(in[0], in[1], in[2], N, 3 * H, H);
                        },
                        plain::attention(sequences, N, A, D, site)},
          .composed =
              [=](const Variables& in) {
                return composed::qkv_attention(in[0], in[1], in[2], sequences, A, site);
              },
          .saved_bytes = make.bytes(3 * N * H) + 4 * N * A};
}

// ---- Losses ------------------------------------------------------------------------------------

// Labels below `classes`; each fifth row is ignored.
Tensor some_labels(SampleMaker& make, int64_t P, int64_t classes) {
  const Tensor label = make.indices(P, classes);
  for (int64_t p = 4; p < P; p += 5) label.data<int32_t>()[p] = -1;
  return label;
}

OpSample cross_entropy_sample(SampleMaker make, int64_t P, int64_t V, float scale) {
  const Tensor label = some_labels(make, P, V);
  const auto meter = std::make_shared<LossMeter>(scale, make.device());
  return {
      .sizes = fmt::format("P={} V={}", P, V),
      .inputs = {make.values({P, V}, 2)},
      .forward = [meter, label = make.there(label)](
                     const Variables& in) { return cross_entropy(in[0], label, meter->site()); },
      .reference = {[=](const Inputs& in) {
        return Doubles{scale * plain::cross_entropy(in[0], label, V, V)};
      }},
      .saved_bytes = 4 * P};
}

OpSample masked_lm_loss_sample(SampleMaker make, int64_t P, int64_t H, int64_t V, int64_t classes,
                               float scale) {
  const Tensor label = some_labels(make, P, classes);
  const auto meter = std::make_shared<LossMeter>(scale, make.device());
  return {
      .sizes = fmt::format("P={} H={} V={} classes={}", P, H, V, classes),
      .inputs = {make.values({P, H}), make.values({V, H}, 2 / std::sqrt(1.0 * H)),
                 make.values({V})},
      .forward =
          [=, label = make.there(label)](const Variables& in) {
            return masked_lm_loss(in[0], in[1], in[2], label, classes, meter->site());
          },
      .reference = {[=](const Inputs& in) { return plain::linear(in[0], in[1], in[2], P, V, H); },
                    [=](const Inputs& in) {
                      return Doubles{scale * plain::cross_entropy(in.back(), label, V, classes)};
                    }},
      .composed =
          [=](const Variables& in) {
            return composed::masked_lm_loss(in[0], in[1], in[2], label, classes, meter->site());
          },
      .saved_bytes = make.bytes(P * V) + 4 * P};
}

// Lines of sequences of these lengths, in scores [N, 2] with `tail` rows of no sequence.
SpanLines some_lines(SampleMaker& make, const Lengths& lengths, int64_t tail) {
  const int64_t B = std::ssize(lengths), S = std::ranges::max(lengths);
  const int64_t N = std::accumulate(lengths.begin(), lengths.end(), tail);
  std::vector<int32_t> source(static_cast<size_t>(2 * B * S), static_cast<int32_t>(2 * N));
  std::vector<int32_t> place(static_cast<size_t>(2 * N), -1), label;
  int64_t row = 0;
  for (int64_t b = 0; b < B; row += lengths[static_cast<size_t>(b++)]) {
    const int64_t length = lengths[static_cast<size_t>(b)];
    for (int64_t which = 0; which < 2; ++which) {
      for (int64_t s = 0; s < length; ++s) {
        const int64_t score = 2 * (row + s) + which, to = (2 * b + which) * S + s;
        source[static_cast<size_t>(to)] = static_cast<int32_t>(score);
        place[static_cast<size_t>(score)] = static_cast<int32_t>(to);
      }
      const bool ignored = b == 1 && which == 1;
      label.push_back(ignored ? -1 : make.indices(1, length).span<int32_t>()[0]);
    }
  }
  return {Tensor::from<int32_t>(source, {2 * B, S}), Tensor::from<int32_t>(place, {N, 2}),
          Tensor::from<int32_t>(label, {2 * B})};
}

OpSample span_loss_sample(SampleMaker make, Lengths lengths, int64_t tail, float scale) {
  const SpanLines lines = some_lines(make, lengths, tail);
  const int64_t N = lines.place.dim(0), L = lines.source.dim(0), S = lines.source.dim(1);
  const SpanLines there{make.there(lines.source), make.there(lines.place), make.there(lines.label)};
  const auto meter = std::make_shared<LossMeter>(scale, make.device());
  return {.sizes = fmt::format("B={} S={} N={}", L / 2, S, N),
          .inputs = {make.values({N, 2})},
          .forward = [there, meter](
                         const Variables& in) { return span_loss(in[0], there, meter->site()); },
          .reference = {[=](const Inputs& in) {
            return Doubles{scale * plain::span_loss(in[0], lengths, lines.label)};
          }},
          .saved_bytes = 4 * (L * S + L)};
}

}  // namespace

// ---- The list ----------------------------------------------------------------------------------

std::vector<OpInfo> layer_ops() {
  using enum ToleranceClass;
  using enum Role;
  return {
      {.name = "linear",
       .formula = "y = x weight^T [+ bias]",
       .shapes = "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
       .saved = "x, weight",
       .inputs = {{"x", activation}, {"weight", parameter}, {"bias", parameter}},
       .tolerance = reduction,
       .samples = at(linear_sample, {{0, 3, 5, true},
                                     {1, 1, 1, true},
                                     {7, 5, 3, false},
                                     {17, 19, 33, true},
                                     {3, 65, 15, true},
                                     {16, 32, 16, false}}),
       .bert_base = once(linear_sample, {BertBase::T, BertBase::H, BertBase::H, true})},
      {.name = "linear_gelu",
       .formula = "y = gelu(x weight^T + bias)",
       .shapes = "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
       .saved = "x, weight, pre-activation [T, N]",
       .inputs = {{"x", activation}, {"weight", parameter}, {"bias", parameter}},
       .tolerance = reduction,
       .samples = at(linear_gelu_sample, {{0, 3, 5, Gelu::erf},
                                          {1, 1, 1, Gelu::erf},
                                          {7, 33, 17, Gelu::tanh},
                                          {17, 19, 33, Gelu::erf}}),
       .bert_base = once(linear_gelu_sample, {BertBase::P, BertBase::H, BertBase::H, Gelu::erf})},
      {.name = "linear_tanh",
       .formula = "y = tanh(x weight^T + bias)",
       .shapes = "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
       .saved = "x, weight, y",
       .inputs = {{"x", activation}, {"weight", parameter}, {"bias", parameter}},
       .tolerance = reduction,
       .samples = at(linear_tanh_sample, {{0, 3, 5}, {1, 1, 1}, {5, 33, 17}}),
       .bert_base = once(linear_tanh_sample, {BertBase::B, BertBase::H, BertBase::H})},
      {.name = "layer_norm",
       .formula = "y = (x - mean) / sqrt(var + eps) * weight + beta",
       .shapes = "x, y [T, H]; weight, beta [H]",
       .saved = "x, weight, mean [T], rstd [T]",
       .inputs = {{"x", activation}, {"weight", parameter}, {"beta", parameter}},
       .tolerance = reduction,
       .samples =
           at(layer_norm_sample,
              {{0, 5, 1e-12f}, {1, 1, 1e-3f}, {3, 2, 0.5f}, {13, 37, 1e-12f}, {3, 128, 1e-5f}}),
       .bert_base = once(layer_norm_sample, {BertBase::T, BertBase::H, 1e-12f})},
      {.name = "add_norm",
       .formula = "y = layer_norm(residual + dropout(x + bias))",
       .shapes = "x, residual, y [T, H]; bias, weight, beta [H]",
       .saved = "z = residual + dropout(x + bias) [T, H], weight, mean [T], rstd [T]",
       .inputs = {{"x", activation},
                  {"bias", parameter},
                  {"residual", activation},
                  {"weight", parameter},
                  {"beta", parameter}},
       .tolerance = reduction,
       .samples = at(
           add_norm_sample,
           {{0, 5, 0.1f, 1e-12f}, {1, 1, 0.5f, 1e-3f}, {13, 37, 0.1f, 1e-12f}, {7, 16, 0, 1e-12f}}),
       .bert_base = once(add_norm_sample, {BertBase::T, BertBase::H, 0.1f, 1e-12f})},
      {.name = "linear_add_norm",
       .formula = "y = layer_norm(residual + dropout(x weight^T + bias))",
       .shapes = "x [T, K]; weight [H, K]; residual, y [T, H]; bias, norm's weight and beta [H]",
       .saved = "x, weight, z = residual + dropout(x weight^T + bias) [T, H], norm's weight, mean "
                "[T], rstd [T]",
       .inputs = {{"x", activation},
                  {"weight", parameter},
                  {"bias", parameter},
                  {"residual", activation},
                  {"norm's weight", parameter},
                  {"beta", parameter}},
       .tolerance = reduction,
       .samples = at(linear_add_norm_sample, {{0, 5, 3, 0.1f, 1e-12f},
                                              {1, 1, 1, 0.5f, 1e-3f},
                                              {13, 37, 9, 0.1f, 1e-12f},
                                              {7, 16, 32, 0, 1e-12f}}),
       .bert_base =
           once(linear_add_norm_sample, {BertBase::T, BertBase::H, BertBase::H, 0.1f, 1e-12f})},
      {.name = "feed_forward_add_norm",
       .formula = "y = layer_norm(x + dropout(gelu(x up^T + up_bias) down^T + down_bias))",
       .shapes = "x, y [T, H]; up [F, H]; up_bias [F]; down [H, F]; down_bias, norm's weight and "
                 "beta [H]",
       .saved =
           "x, up, down, pre-activation [T, F], activated [T, F], z = x + dropout(...) [T, H], "
           "norm's weight, mean [T], rstd [T]",
       .inputs = {{"x", activation},
                  {"up", parameter},
                  {"up_bias", parameter},
                  {"down", parameter},
                  {"down_bias", parameter},
                  {"norm's weight", parameter},
                  {"beta", parameter}},
       .tolerance = reduction,
       .samples = at(feed_forward_add_norm_sample, {{0, 3, 5, Gelu::erf, 0.1f, 1e-12f},
                                                    {1, 1, 1, Gelu::erf, 0.5f, 1e-3f},
                                                    {5, 7, 33, Gelu::tanh, 0.1f, 1e-12f},
                                                    {16, 8, 32, Gelu::tanh, 0.3f, 1e-12f},
                                                    {17, 9, 31, Gelu::erf, 0, 1e-12f}}),
       .bert_base = once(feed_forward_add_norm_sample,
                         {BertBase::T, BertBase::H, BertBase::F, Gelu::erf, 0.1f, 1e-12f})},
      {.name = "attention",
       .formula = "y_i = sum over j of dropout(softmax_j(q_i k_j / sqrt D)) v_j",
       .shapes = "qkv [T, 3H] read as [T, 3, A, D]; y [T, H]",
       .saved = "qkv, y, log-sum-exp [T, A]",
       .inputs = {{"qkv", activation}},
       .tolerance = reduction,
       .samples = at(attention_sample, {{0, 1, 3, {}, 0},
                                        {1, 1, 1, {1}, 0},
                                        {15, 2, 4, {3, 0, 1, 9}, 0},
                                        {19, 3, 5, {2, 17}, 0.1f},
                                        {5, 1, 32, {5}, 0.5f},
                                        {4, 1, 64, {1, 3}, 0}}),
       .bert_base = once(attention_sample, {BertBase::T, BertBase::A, BertBase::D,
                                            Lengths(BertBase::B, BertBase::S), 0.1f})},
      {.name = "qkv_attention",
       .formula = "y = attention(x weight^T + bias)",
       .shapes = "x, y [T, H]; weight [3H, H]; bias [3H]: query, key, value",
       .saved = "x, weight, qkv [T, 3H], y, log-sum-exp [T, A]",
       .inputs = {{"x", activation}, {"weight", parameter}, {"bias", parameter}},
       .tolerance = reduction,
       .samples = at(qkv_attention_sample, {{0, 1, 3, {}, 0},
                                            {1, 1, 1, {1}, 0},
                                            {13, 2, 4, {3, 0, 1, 7}, 0},
                                            {11, 3, 5, {2, 9}, 0.1f}}),
       .bert_base = once(qkv_attention_sample, {BertBase::T, BertBase::A, BertBase::D,
                                                Lengths(BertBase::B, BertBase::S), 0.1f})},
      {.name = "cross_entropy",
       .formula = "loss = scale * sum over p with a label of (log sum_v exp(logits[p, v]) - "
                  "logits[p, label[p]])",
       .shapes = "logits [P, V]; label [P]; loss []",
       .saved = "logits, log-sum-exp [P]",
       .inputs = {{"logits", activation}},
       .tolerance = reduction,
       .samples = at(cross_entropy_sample, {{0, 3, 1}, {1, 1, 1}, {8, 2, 0.125f}, {13, 37, 0.5f}}),
       .bert_base = once(cross_entropy_sample, {BertBase::P, BertBase::V, 1})},
      {.name = "masked_lm_loss",
       .formula = "loss = cross_entropy(x weight^T + bias)",
       .shapes = "x [P, H]; weight [V, H]; bias [V]; label [P]; loss []",
       .saved = "x, weight, logits [P, V], log-sum-exp [P]",
       .inputs = {{"x", activation}, {"weight", parameter}, {"bias", parameter}},
       .tolerance = reduction,
       .samples = at(masked_lm_loss_sample,
                     {{0, 3, 5, 4, 1}, {1, 1, 1, 1, 1}, {5, 7, 64, 37, 0.2f}, {13, 9, 33, 33, 1}}),
       .bert_base = once(masked_lm_loss_sample, {BertBase::P, BertBase::H, BertBase::V,
                                                 BertBase::classes, 1.0f / BertBase::P})},
      {.name = "span_loss",
       .formula =
           "loss = scale * sum of softmax cross-entropy over each sequence's starts and ends",
       .shapes = "scores [N, 2]; source [2B, S]; place [N, 2]; label [2B]; loss []",
       .saved = "lines [2B, S] f32, log-sum-exp [2B]",
       .inputs = {{"scores", activation}},
       .tolerance = reduction,
       .samples =
           at(span_loss_sample, {{{1}, 0, 1}, {{7, 1, 12}, 3, 0.25f}, {{5, 17, 16, 33}, 0, 0.5f}}),
       .bert_base = once(span_loss_sample, {Lengths(BertBase::B, BertBase::S), 0, 1})},
  };
}

}  // namespace minibert
