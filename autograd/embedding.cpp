// embedding.cpp: rows of up to three tables, summed (word + segment + position). The gradient of a
// table is a scatter in row order, so that it has the same bits for every thread count. Called by
// models/bert's embeddings. Kernel: core/kernels/embedding.h. Test: ctest -R autograd_op_info.
#include "core/kernels/embedding.h"

#include "autograd/check.h"
#include "autograd/ops.h"

namespace minibert {
namespace {

void check_tables(const std::vector<Variable>& tables, const std::vector<Tensor>& indices) {
  constexpr size_t kMost = EmbeddingForward::kMaxTables;
  MB_CHECK(!tables.empty() && tables.size() <= kMost && tables.size() == indices.size(),
           "embedding: {} tables and {} index tensors are given, expected as many of one as of the "
           "other, 1 to {}",
           tables.size(), indices.size(), kMost);
  for (size_t k = 0; k < tables.size(); ++k) {
    check_rank("embedding", "table", tables[k], 2);
    check_shape("embedding", "table", tables[k].shape(),
                {tables[k].shape()[0], tables[0].shape()[1]}, "columns as in the first table",
                tables[0].shape());
    check_index("embedding", "index", indices[k], indices[0].numel(), "row of the result");
  }
}

}  // namespace

Variable embedding(const std::vector<Variable>& tables, const std::vector<Tensor>& indices) {
  check_tables(tables, indices);
  EmbeddingForward args;
  args.count = static_cast<int>(tables.size());
  for (size_t k = 0; k < tables.size(); ++k) {
    args.table[k] = tables[k].value();
    args.index[k] = indices[k];
  }
  args.y = Tensor::empty({indices[0].numel(), tables[0].shape()[1]});
  embedding_forward(args);
  return make_result(
      "embedding", args.y, tables,
      [indices](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        for (size_t k = 0; k < inputs.size(); ++k) {
          if (!inputs[k].wanted()) continue;
          embedding_backward({dy, indices[k], inputs[k].buffer, inputs[k].accumulate});
        }
      });
}

}  // namespace minibert
