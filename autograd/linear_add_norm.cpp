// linear_add_norm.cpp: a linear layer and the end of its sublayer as one op, so that bias, dropout and
// the residual sum live in the product's epilogue. Called by nn's encoder layer. Composed twin:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "autograd/check.h"
#include "autograd/layer_norm.h"

namespace minibert {

Variable linear_add_norm(const Variable& x, const Variable& weight, const Variable& bias,
                         const Variable& residual, const Norm& norm, const RowPlaces& places,
                         const Dropout& dropout) {
  constexpr const char* kOp = "linear_add_norm";
  check_linear(kOp, x, weight, bias);
  SavedNorm saved;
  const Tensor y = product_add_norm(kOp, linear_gemm(x.value(), weight.value()),
                                    {bias, residual, norm, places, dropout}, saved);
  return make_result(
      kOp, y, {x, weight, bias, residual, norm.weight, norm.beta},
      [saved, x = x.value(), weight = weight.value()](const Tensor& dy,
                                                      std::vector<GradientTarget>& inputs) {
        const GradientTarget &dx = inputs[0], &dweight = inputs[1];
        GradientTarget product;
        if (dx.wanted() || dweight.wanted()) product.buffer = dy.like(dy.shape());
        norm_backward(saved, dy, {product, inputs[2], inputs[3], inputs[4], inputs[5]});
        linear_backward_x(product.buffer, weight, dx);
        linear_backward_parameters(product.buffer, x, dweight);
      });
}

}  // namespace minibert
