// dropout_mask.cpp: dropout's masks, element by element. Contract: dropout_mask.h.
#include "core/kernels/dropout_mask.h"

#include "core/kernels/check.h"

namespace minibert {
namespace {

double factor_of(const Dropout& dropout, uint32_t output) {
  return dropout_keeps(output, dropout.threshold) ? 65536.0 / (65536.0 - dropout.threshold) : 0.0;
}

}  // namespace

double attention_dropout_factor(const Dropout& dropout, int64_t query, int64_t key, int64_t head,
                                int32_t sample) {
  if (!dropout.active()) return 1.0;
  const auto i = static_cast<uint32_t>(query), j = static_cast<uint32_t>(key);
  const PhiloxOutput output = philox4x32(
      attention_counter(dropout, i, j, static_cast<uint32_t>(head), static_cast<uint32_t>(sample)),
      dropout.seed);
  return factor_of(dropout, output[static_cast<size_t>(attention_output_index(i, j))]);
}

double hidden_dropout_factor(const Dropout& dropout, int32_t position, int32_t sample, int64_t h) {
  if (!dropout.active()) return 1.0;
  const PhiloxOutput output =
      philox4x32(hidden_counter(dropout, static_cast<uint32_t>(h / 4),
                                static_cast<uint32_t>(position), static_cast<uint32_t>(sample)),
                 dropout.seed);
  return factor_of(dropout, output[static_cast<size_t>(h % 4)]);
}

double hidden_dropout_factor(const Dropout& dropout, const Operand& position,
                             const Operand& row_sample, int64_t t, int64_t h) {
  if (!dropout.active()) return 1.0;
  return hidden_dropout_factor(dropout, position.data<int32_t>()[t], row_sample.data<int32_t>()[t],
                               h);
}

Tensor export_attention_dropout_mask(const Dropout& dropout, int64_t length, int64_t head,
                                     int32_t sample) {
  MB_CHECK(length >= 0 && length <= 65536,
           "export_attention_dropout_mask: length is {}, expected 0 to 65536.", length);
  MB_CHECK(head >= 0 && head <= 65535,
           "export_attention_dropout_mask: head is {}, expected 0 to 65535.", head);
  const Tensor mask = Tensor::empty({length, length}, DType::u8, MemoryCategory::data);
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = 0; j < length; ++j)
      mask.data<uint8_t>()[i * length + j] =
          attention_dropout_factor(dropout, i, j, head, sample) != 0;
  }
  return mask;
}

Tensor export_hidden_dropout_mask(const Dropout& dropout, const Tensor& position,
                                  const Tensor& row_sample, int64_t hidden_size) {
  const char* op = "export_hidden_dropout_mask";
  check_rank(op, "position", position, 1, DType::i32);
  check_tensor(op, "row_sample", row_sample, position.shape(), "the shape of position", DType::i32);
  MB_CHECK(hidden_size >= 0, "export_hidden_dropout_mask: hidden_size is {}, expected 0 or more.",
           hidden_size);
  const int64_t T = position.numel(), H = hidden_size;
  const Tensor mask = Tensor::empty({T, H}, DType::u8, MemoryCategory::data);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h)
      mask.data<uint8_t>()[t * H + h] =
          hidden_dropout_factor(dropout, position, row_sample, t, h) != 0;
  }
  return mask;
}

}  // namespace minibert
