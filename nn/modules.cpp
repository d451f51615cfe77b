// modules.cpp: parameter lists and forward passes.
#include "nn/modules.h"

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
  const Variable attended =
      attention.output(context, x, places, dropout.attention_output);  // [T, H]
  const Linear &up = intermediate.dense, &down = output.dense;
  return feed_forward_add_norm(attended, up.weight, up.bias, down.weight, down.bias, gelu,
                               output.layer_norm.norm(), places, dropout.feed_forward);  // [T, H]
}

}  // namespace minibert
