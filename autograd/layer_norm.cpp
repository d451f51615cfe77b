// layer_norm.cpp: LayerNorm, and add_norm: bias, dropout, residual sum and LayerNorm in one pass
// over memory, which ends both halves of an encoder layer. add_norm saves the sum z, written over x
// where nobody else can see x. Kernel: core/kernels/layer_norm.h. Composed twin:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "core/kernels/layer_norm.h"

#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/cast.h"

namespace minibert {
namespace {

// v is [H] of x [T, H], of the type that `why` says.
void check_row_vector(const char* op, const char* what, const Variable& v, const Variable& x,
                      DType dtype, const char* why) {
  check_rank(op, what, v, 1);
  check_shape(op, what, v.shape(), {x.shape()[1]}, "last dimension of x", x.shape());
  check_type(op, what, v, dtype, why);
}

void check_norm(const char* op, const Variable& x, const Variable& weight, const Variable& beta,
                float eps) {
  check_rank(op, "x", x, 2);
  check_row_vector(op, "weight", weight, x, DType::f32, "LayerNorm's vectors are f32");
  check_row_vector(op, "beta", beta, x, DType::f32, "LayerNorm's vectors are f32");
  MB_CHECK(eps > 0, "layer_norm: eps is {}, expected more than 0", eps);
}

// What backward reads. z is x itself for layer_norm.
struct Saved {
  Tensor z, mean, rstd, weight;
  RowPlaces places;
  Dropout dropout;
};

// Runs the kernel: y, and z, mean and rstd of `saved`. args has what is beside x, weight and beta.
Tensor run_forward(LayerNormForward args, const Variable& x, const Variable& weight,
                   const Variable& beta, float eps, Saved& saved) {
  const int64_t T = x.shape()[0];
  const Tensor y = x.value().like(x.shape());
  saved.mean = weight.value().like({T});
  saved.rstd = weight.value().like({T});
  saved.weight = weight.value();
  args.x = x.value();
  args.weight = weight.value();
  args.beta = beta.value();
  args.y = y;
  args.mean = saved.mean;
  args.rstd = saved.rstd;
  args.eps = eps;
  layer_norm_forward(args);
  return y;
}

// Where the kernel writes one gradient: into the target's buffer, or, where that has another type or
// is to be added to and the kernel can't, into a tensor of its own, which `finish` hands over.
class KernelOutput {
 public:
  KernelOutput(const GradientTarget& target, DType dtype, bool can_add = true) : target_(target) {
    if (!target.wanted()) return;
    const bool direct = target.buffer.dtype() == dtype && (can_add || !target.accumulate);
    tensor_ = direct ? target.buffer
                     : Tensor::empty(target.buffer.shape(), dtype, MemoryCategory::activations,
                                     target.buffer.device());
    accumulate_ = direct && target.accumulate;
    handed_over_ = !direct;
  }
  const Tensor& tensor() const { return tensor_; }
  bool accumulate() const { return accumulate_; }
  void finish() const {
    if (handed_over_) cast(tensor_, target_.buffer, target_.accumulate);
  }

 private:
  const GradientTarget& target_;
  Tensor tensor_;
  bool accumulate_ = false, handed_over_ = false;
};

// d residual = dz; dx = dz times dropout's mask. x and bias may be targets that nobody wants.
void run_backward(const Saved& saved, const Tensor& dy, const GradientTarget& x,
                  const GradientTarget& bias, const GradientTarget& residual,
                  const GradientTarget& weight, const GradientTarget& beta) {
  const KernelOutput dx(x, dy.dtype(), /* can_add= */ false), dbias(bias, DType::f32),
      dz(residual, dy.dtype()), dweight(weight, DType::f32), dbeta(beta, DType::f32);
  const Tensor own_dz = residual.wanted() ? dz.tensor() : dy.like(dy.shape());
  const bool own_dx = !x.wanted() && saved.dropout.active();  // the kernel masks where it writes
  const Tensor masked = own_dx ? dy.like(dy.shape()) : dx.tensor();
  LayerNormBackward args;
  args.dy = dy;
  args.z = saved.z;
  args.mean = saved.mean;
  args.rstd = saved.rstd;
  args.weight = saved.weight;
  args.dz = own_dz;
  args.accumulate_dz = dz.accumulate();
  args.dx = masked;
  args.dbias = dbias.tensor();
  args.accumulate_dbias = dbias.accumulate();
  args.dweight = dweight.tensor();
  args.accumulate_dweight = dweight.accumulate();
  args.dbeta = dbeta.tensor();
  args.accumulate_dbeta = dbeta.accumulate();
  args.position = saved.places.position;
  args.row_sample = saved.places.row_sample;
  args.dropout = saved.dropout;
  layer_norm_backward(args);
  for (const KernelOutput* output : {&dx, &dbias, &dz, &dweight, &dbeta}) output->finish();
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& beta, float eps) {
  check_norm("layer_norm", x, weight, beta, eps);
  Saved saved;
  const Tensor y = run_forward({}, x, weight, beta, eps, saved);
  saved.z = x.value();
  return make_result("layer_norm", y, {x, weight, beta},
                     [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       run_backward(saved, dy, {}, {}, inputs[0], inputs[1], inputs[2]);
                     });
}

namespace {

Variable add_norm(const Variable& x, bool in_place, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  constexpr const char* kOp = "add_norm";
  check_norm(kOp, x, weight, beta, eps);
  const DType dtype = x.value().dtype();
  check_rank(kOp, "residual", residual, 2);
  check_shape(kOp, "residual", residual.shape(), x.shape(), "the shape of x", x.shape());
  check_type(kOp, "residual", residual, dtype, "the type of x");
  check_row_vector(kOp, "bias", bias, x, dtype, "the type of x");
  Saved saved;
  saved.z = in_place ? x.value() : x.value().like(x.shape());
  LayerNormForward args;
  args.bias = bias.value();
  args.residual = residual.value();
  args.z = saved.z;
  if (dropout.active()) {
    check_index(kOp, "position", places.position, x.shape()[0], "row of x");
    check_index(kOp, "row_sample", places.row_sample, x.shape()[0], "row of x");
    args.dropout = saved.dropout = dropout;
    saved.places = places;
    args.position = places.position;
    args.row_sample = places.row_sample;
  }
  const Tensor y = run_forward(args, x, weight, beta, eps, saved);
  return make_result(kOp, y, {x, bias, residual, weight, beta},
                     [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       run_backward(saved, dy, inputs[0], inputs[1], inputs[2], inputs[3],
                                    inputs[4]);
                     });
}

}  // namespace

Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  return add_norm(x, /* in_place= */ false, bias, residual, weight, beta, eps, places, dropout);
}

Variable add_norm(Variable&& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  // Neither another variable nor a backward function may hold x: only then is it ours.
  const bool unseen = x.defined() && x.state().use_count() == 1 && x.value().unique();
  return add_norm(x, unseen, bias, residual, weight, beta, eps, places, dropout);
}

}  // namespace minibert
