// embedding.cpp: rows of up to three tables, summed (word + segment + position). The gradient of a
// table is added up row by row, from the groups that the loader sorted (core/row_groups.h), so that
// it has the same bits for every thread count. Called by models/bert's embeddings. Kernel:
// core/kernels/embedding.h. Test: ctest -R autograd_op_info.
#include "core/kernels/embedding.h"

#include "autograd/check.h"
#include "autograd/ops.h"

namespace minibert {
namespace {

void check_groups(const std::vector<Variable>& tables, const std::vector<RowGroups>& groups) {
  MB_CHECK(groups.empty() || groups.size() == tables.size(),
           "embedding: {} groups are given, expected one per table ({})", groups.size(),
           tables.size());
  if (!will_record(tables)) return;
  for (size_t k = 0; k < tables.size(); ++k) {
    MB_CHECK(!tables[k].requires_grad() || (k < groups.size() && groups[k].defined()),
             "embedding: the groups of index {} are not given, which its table's gradient needs. "
             "Pass group_rows() of the index",
             k);
  }
}

// The gradient of a table; f32, unless the table is itself the result of an op.
void backward(const Tensor& dy, const RowGroups& groups, const GradientTarget& target) {
  const auto add = [&](const Tensor& dtable, bool accumulate) {
    embedding_backward({dy, groups.order, groups.row, groups.start, dtable, accumulate});
  };
  if (target.buffer.dtype() == DType::f32) return add(target.buffer, target.accumulate);
  target.write(DType::f32, [&](const Tensor& dtable) { add(dtable, false); });
}

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

Variable embedding(const std::vector<Variable>& tables, const std::vector<Tensor>& indices,
                   const std::vector<RowGroups>& groups) {
  check_tables(tables, indices);
  check_groups(tables, groups);
  EmbeddingForward args;
  args.count = static_cast<int>(tables.size());
  for (size_t k = 0; k < tables.size(); ++k) {
    args.table[k] = tables[k].value();
    args.index[k] = indices[k];
  }
  const Tensor y = tables[0].value().like({indices[0].numel(), tables[0].shape()[1]});
  args.y = y;
  embedding_forward(args);
  return make_result("embedding", y, tables,
                     [groups](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       for (size_t k = 0; k < inputs.size(); ++k)
                         if (inputs[k].wanted()) backward(dy, groups[k], inputs[k]);
                     });
}

}  // namespace minibert
