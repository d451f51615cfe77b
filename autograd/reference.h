// reference.h: each op's formula as plain loops in double, forward only. Read it first to learn
// what an op computes. Internal to autograd's OpInfos: tests compare ops with it, and gradcheck
// differentiates it numerically, where double leaves nine digits. Never a fallback, never fast.
// Functions return a tensor, or the step of a formula that makes it (formula.h). Row-major.
// Test: ctest -R autograd_op_info.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "autograd/formula.h"
#include "autograd/ops.h"

namespace minibert::plain {

/// y[i] = f(x[i]) of the last tensor
Step each(const std::function<double(double)>& f);
Step gelu(Gelu kind);
/// tanh, whose plain backward reads y.
Step tanh();
/// y[i] = a[i] + b[i]
Doubles add(const Doubles& a, const Doubles& b);
/// x [T, H] with bias [H] added to each row.
Doubles add_bias(const Doubles& x, const Doubles& bias);
/// y = x weight^T [+ bias].  x [T, K]; weight [N, K]; bias [N] or empty; y [T, N].
Doubles linear(const Doubles& x, const Doubles& weight, const Doubles& bias, int64_t T, int64_t N,
               int64_t K);
/// x [T, H] with elements dropped and scaled as core/philox.h says.
Doubles dropout(const Doubles& x, int64_t T, int64_t H, const RowPlaces& places,
                const Dropout& dropout);
Doubles layer_norm(const Doubles& x, const Doubles& weight, const Doubles& beta, int64_t T,
                   int64_t H, double eps);
/// The last tensor is qkv [N, 3, A, D]; result [N, A, D], zero for rows after the last sequence.
/// The plain backward is the chapter's reference, which reads the result, not weights [S, S].
Step attention(const Sequences& sequences, int64_t N, int64_t A, int64_t D, const Dropout& dropout);
/// Sum over the rows with a label (not -1) of the cross-entropy of the first `classes` of V columns.
double cross_entropy(const Doubles& logits, const Tensor& label, int64_t V, int64_t classes);
/// Sum over sequences of these lengths, one after the other in scores [N, 2], of the cross-entropies
/// of their starts (column 0, label 2b) and ends (column 1, label 2b + 1).
double span_loss(const Doubles& scores, const std::vector<int64_t>& lengths, const Tensor& label);

}  // namespace minibert::plain
