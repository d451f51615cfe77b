// random.cpp: dropout's masks as tensors, element by element. Contract: random.h.
#include "core/kernels/random.h"

#include "core/kernels/check.h"

namespace minibert {

Tensor export_attention_dropout_mask(const Dropout& dropout, int64_t length, int64_t head,
                                     int32_t sample) {
  MB_CHECK(length >= 0 && length <= 65536,
           "export_attention_dropout_mask: length is {}, expected 0 to 65536.", length);
  MB_CHECK(head >= 0 && head <= 65535,
           "export_attention_dropout_mask: head is {}, expected 0 to 65535.", head);
  const Tensor mask = Tensor::empty({length, length}, DType::u8, MemoryCategory::data);
  for (uint32_t i = 0; i < static_cast<uint32_t>(length); ++i) {
    for (uint32_t j = 0; j < static_cast<uint32_t>(length); ++j) {
      const PhiloxOutput output =
          philox4x32(attention_counter(dropout, i, j, static_cast<uint32_t>(head),
                                       static_cast<uint32_t>(sample)),
                     dropout.seed);
      const auto mine = static_cast<size_t>(attention_output_index(i, j));
      mask.data<uint8_t>()[i * length + j] = dropout_keeps(output[mine], dropout.threshold);
    }
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
    for (int64_t h = 0; h < H; ++h) {
      const PhiloxOutput output =
          philox4x32(hidden_counter(dropout, static_cast<uint32_t>(h / 4),
                                    static_cast<uint32_t>(position.data<int32_t>()[t]),
                                    static_cast<uint32_t>(row_sample.data<int32_t>()[t])),
                     dropout.seed);
      mask.data<uint8_t>()[t * H + h] =
          dropout_keeps(output[static_cast<size_t>(h % 4)], dropout.threshold);
    }
  }
  return mask;
}

}  // namespace minibert
