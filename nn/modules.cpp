// modules.cpp: parameter lists and forward passes.
#include "nn/modules.h"

#include <utility>

namespace minibert {

void Linear::parameters(ParameterWalk& walk) {
  walk.parameter("weight", weight, {out, in}, Initializer::truncated_normal);
  walk.parameter("bias", bias, {out}, Initializer::zeros);
}

void Embedding::parameters(ParameterWalk& walk) {
  walk.parameter("weight", weight, {rows, size}, Initializer::truncated_normal, storage_rows);
}

void LayerNorm::parameters(ParameterWalk& walk) {
  walk.masters([&] {
    walk.parameter("weight", weight, {size}, Initializer::ones);
    walk.parameter("bias", bias, {size}, Initializer::zeros);
  });
}

void QueryKeyValue::parameters(ParameterWalk& walk) {
  walk.fused({"query.weight", "key.weight", "value.weight"}, weight, {size, size},
             Initializer::truncated_normal);
  walk.fused({"query.bias", "key.bias", "value.bias"}, bias, {size}, Initializer::zeros);
}

void DenseAddNorm::parameters(ParameterWalk& walk) {
  walk.child("dense", dense);
  walk.child("LayerNorm", layer_norm);
}

Variable DenseAddNorm::finish(Variable product, const Variable& residual, const RowPlaces& places,
                              const Dropout& dropout) const {
  return add_norm(std::move(product), dense.bias, residual, layer_norm.weight, layer_norm.bias,
                  layer_norm.eps, places, dropout);
}

void EncoderLayer::Attention::parameters(ParameterWalk& walk) {
  walk.child("self", self);
  walk.child("output", output);
}

void EncoderLayer::Intermediate::parameters(ParameterWalk& walk) {
  walk.child("dense", dense);
}

EncoderLayer::EncoderLayer(int64_t hidden_size, int64_t intermediate_size, int heads, float eps,
                           Gelu gelu)
    : heads(heads),
      gelu(gelu),
      attention{{hidden_size, {}, {}},
                {{hidden_size, hidden_size, {}, {}}, {hidden_size, eps, {}, {}}}},
      intermediate{{hidden_size, intermediate_size, {}, {}}},
      output{{intermediate_size, hidden_size, {}, {}}, {hidden_size, eps, {}, {}}} {}

void EncoderLayer::parameters(ParameterWalk& walk) {
  walk.child("attention", attention);
  walk.child("intermediate", intermediate);
  walk.child("output", output);
}

Variable EncoderLayer::operator()(const Variable& x, const Sequences& sequences,
                                  const RowPlaces& places, const LayerDropout& dropout,
                                  const PickedRows& picked) const {
  const Variable context = qkv_attention(x, attention.self.weight, attention.self.bias, sequences,
                                         heads, dropout.attention);  // [T, H]
  if (!picked.row.defined()) return after_attention(context, x, places, dropout);
  const Variable read = gather_rows(context, picked.row);  // [R, H]
  return after_attention(read, gather_rows(x, picked.row), picked.places, dropout);
}

Variable EncoderLayer::after_attention(const Variable& context, const Variable& x,
                                       const RowPlaces& places, const LayerDropout& dropout) const {
  Variable projected = linear(context, attention.output.dense.weight);  // [T, H]
  const Variable attended =
      attention.output.finish(std::move(projected), x, places, dropout.attention_output);  // [T, H]
  Variable expanded = feed_forward(attended, intermediate.dense.weight, intermediate.dense.bias,
                                   output.dense.weight, gelu);
  return output.finish(std::move(expanded), attended, places, dropout.feed_forward);  // [T, H]
}

}  // namespace minibert
