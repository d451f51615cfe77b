// embedding.cpp: the plain embedding, and the callers of the fast one.
#include "core/kernels/embedding.h"

#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace minibert {
namespace {

void check_matrix(const char* op, const char* what, const Tensor& x, int64_t rows, int64_t h) {
  MB_CHECK(x.defined() && x.dtype() == DType::f32 && x.rank() == 2 && x.dim(1) == h &&
               (rows < 0 || x.dim(0) == rows),
           "{}: {} is {} {}, expected f32 [{}, {}]", op, what,
           x.defined() ? name_of(x.dtype()) : "undefined", x.shape().str(),
           rows < 0 ? "rows" : fmt::format("{}", rows), h);
}

void check_index(const char* op, int number, const Tensor& index, int64_t t, int64_t rows) {
  MB_CHECK(index.defined() && index.dtype() == DType::i32 && index.rank() == 1 && index.dim(0) == t,
           "{}: index {} is {} {}, expected i32 [{}], one a row of y", op, number,
           index.defined() ? name_of(index.dtype()) : "undefined", index.shape().str(), t);
  const int32_t* id = index.data<int32_t>();
  for (int64_t i = 0; i < t; ++i) {
    MB_CHECK_AS(DataError, id[i] >= 0 && id[i] < rows,
                "{}: index {} at position {} is {}, expected 0 to {} (the table has {} rows). "
                "Do the tokenizer's vocabulary and the model's configuration belong together?",
                op, number, i, id[i], rows - 1, rows);
  }
}

void check(const EmbeddingForward& args) {
  constexpr const char* kOp = "embedding_forward";
  MB_CHECK(args.count >= 1 && args.count <= EmbeddingForward::kMaxTables,
           "{}: count is {}, expected 1 to {}", kOp, args.count, EmbeddingForward::kMaxTables);
  MB_CHECK(args.y.defined() && args.y.rank() == 2, "{}: y is {}, expected [T, H]", kOp,
           args.y.shape().str());
  check_matrix(kOp, "y", args.y, args.y.dim(0), args.y.dim(1));
  for (int k = 0; k < args.count; ++k) {
    check_matrix(kOp, "table", args.table[k], -1, args.y.dim(1));
    check_index(kOp, k, args.index[k], args.y.dim(0), args.table[k].dim(0));
  }
}

void check(const EmbeddingBackward& args) {
  constexpr const char* kOp = "embedding_backward";
  MB_CHECK(args.dy.defined() && args.dy.rank() == 2, "{}: dy is {}, expected [T, H]", kOp,
           args.dy.shape().str());
  check_matrix(kOp, "dy", args.dy, args.dy.dim(0), args.dy.dim(1));
  check_matrix(kOp, "dtable", args.dtable, -1, args.dy.dim(1));
  check_index(kOp, 0, args.index, args.dy.dim(0), args.dtable.dim(0));
}

}  // namespace

// ---- 6. Reference
// ---------------------------------------------------------------------------------------------------

void embedding_forward_reference(const EmbeddingForward& args) {
  const int64_t T = args.y.dim(0), H = args.y.dim(1);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) {
      double sum = 0;
      for (int k = 0; k < args.count; ++k)
        sum += args.table[k].data<float>()[args.index[k].data<int32_t>()[t] * H + h];
      args.y.data<float>()[t * H + h] = static_cast<float>(sum);
    }
  }
}

void embedding_backward_reference(const EmbeddingBackward& args) {
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1);
  if (!args.accumulate) args.dtable.fill_zero();
  float* dtable = args.dtable.data<float>();
  std::vector<double> sum(dtable, dtable + args.dtable.numel());
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h)
      sum[static_cast<size_t>(args.index.data<int32_t>()[t] * H + h)] +=
          args.dy.data<float>()[t * H + h];
  }
  for (size_t i = 0; i < sum.size(); ++i) dtable[i] = static_cast<float>(sum[i]);
}

// ---- 7. Fast CPU
// ---------------------------------------------------------------------------------------------------

void embedding_forward(const EmbeddingForward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.y.numel());
  dispatch("embedding_forward", args.y.device(), n * (args.count - 1), 4 * n * (args.count + 1),
           [&] { embedding_forward_reference(args); });
}

void embedding_backward(const EmbeddingBackward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.dy.numel());
  dispatch("embedding_backward", args.dy.device(), n,
           12 * n + (args.accumulate ? 0 : 4) * static_cast<double>(args.dtable.numel()),
           [&] { embedding_backward_reference(args); });
}

}  // namespace minibert
