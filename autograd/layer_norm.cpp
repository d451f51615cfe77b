// layer_norm.cpp: LayerNorm, and what ends both halves of an encoder layer: bias, dropout, residual
// sum and LayerNorm, in one pass over memory (add_norm) or after a product whose epilogue does the sum
// (product_add_norm). The sum z is saved. Kernels: core/kernels/layer_norm.h, gemm.h. Composed twins:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "autograd/layer_norm.h"

#include "autograd/check.h"
#include "core/kernels/cast.h"
#include "core/kernels/layer_norm.h"

namespace minibert {
namespace {

// v is [H] of x [T, H], of the type that `why` says.
void check_row_vector(const char* op, const char* what, const Variable& v, const Shape& x,
                      DType dtype, const char* why) {
  check_rank(op, what, v, 1);
  check_shape(op, what, v.shape(), {x[1]}, "last dimension of x", x);
  check_type(op, what, v, dtype, why);
}

void check_norm(const char* op, const Norm& norm, const Shape& x) {
  check_row_vector(op, "weight", norm.weight, x, DType::f32, "LayerNorm's vectors are f32");
  check_row_vector(op, "beta", norm.beta, x, DType::f32, "LayerNorm's vectors are f32");
  MB_CHECK(norm.eps > 0, "layer_norm: eps is {}, expected more than 0", norm.eps);
}

void check_add_norm(const char* op, const AddNorm& args, const Shape& x, DType dtype) {
  check_norm(op, args.norm, x);
  check_rank(op, "residual", args.residual, 2);
  check_shape(op, "residual", args.residual.shape(), x, "the shape of x", x);
  check_type(op, "residual", args.residual, dtype, "the type of x");
  check_row_vector(op, "bias", args.bias, x, dtype, "the type of x");
  if (!args.dropout.active()) return;
  check_index(op, "position", args.places.position, x[0], "row of x");
  check_index(op, "row_sample", args.places.row_sample, x[0], "row of x");
}

// Runs the kernel: y, and mean and rstd of `saved`. args has what is beside x, weight and beta.
Tensor run_forward(LayerNormForward args, const Tensor& x, const Norm& norm, SavedNorm& saved) {
  const Tensor y = x.like(x.shape());
  saved.weight = norm.weight.value();
  saved.mean = saved.weight.like({x.dim(0)});
  saved.rstd = saved.weight.like({x.dim(0)});
  args.x = x;
  args.weight = saved.weight;
  args.beta = norm.beta.value();
  args.y = y;
  args.mean = saved.mean;
  args.rstd = saved.rstd;
  args.eps = norm.eps;
  layer_norm_forward(args);
  return y;
}

// The same, where the kernel adds too: z of `saved`, which may be x.
Tensor run_add_norm(const Tensor& x, const AddNorm& args, SavedNorm& saved) {
  LayerNormForward forward;
  forward.bias = args.bias.value();
  forward.residual = args.residual.value();
  forward.z = saved.z;
  forward.dropout = saved.dropout;
  forward.position = saved.places.position;
  forward.row_sample = saved.places.row_sample;
  return run_forward(forward, x, args.norm, saved);
}

// With z [T, H] to be written, and what backward needs of dropout.
SavedNorm saved_for(const AddNorm& args, const Tensor& z) {
  SavedNorm saved;
  saved.z = z;
  if (args.dropout.active()) saved.places = args.places, saved.dropout = args.dropout;
  return saved;
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

}  // namespace

Tensor product_add_norm(const char* op, GemmArgs product, const AddNorm& args, SavedNorm& saved) {
  const Shape shape{product.a.dim(0), product.b.dim(0)};
  check_add_norm(op, args, shape, product.a.dtype());
  saved = saved_for(args, args.residual.value().like(shape));
  product.c = saved.z;
  GemmArgs adding = product;
  adding.epilogue = GemmArgs::Epilogue::residual;
  adding.bias = args.bias.value();
  adding.residual = args.residual.value();
  adding.position = saved.places.position;
  adding.row_sample = saved.places.row_sample;
  adding.dropout = saved.dropout;
  if (!gemm_fuses(adding)) {
    gemm(product);
    return run_add_norm(saved.z, args, saved);
  }
  gemm(adding);
  return run_forward({}, saved.z, args.norm, saved);
}

void norm_backward(const SavedNorm& saved, const Tensor& dy, const NormTargets& targets) {
  const KernelOutput dx(targets.x, dy.dtype(), /* can_add= */ false),
      dbias(targets.bias, DType::f32), dz(targets.residual, dy.dtype()),
      dweight(targets.weight, DType::f32), dbeta(targets.beta, DType::f32);
  const Tensor own_dz = targets.residual.wanted() ? dz.tensor() : dy.like(dy.shape());
  // The kernel masks where it writes.
  const bool own_dx = !targets.x.wanted() && saved.dropout.active();
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

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& beta, float eps) {
  check_rank("layer_norm", "x", x, 2);
  const Norm norm{weight, beta, eps};
  check_norm("layer_norm", norm, x.shape());
  SavedNorm saved;
  saved.z = x.value();
  const Tensor y = run_forward({}, saved.z, norm, saved);
  return make_result("layer_norm", y, {x, weight, beta},
                     [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       norm_backward(saved, dy, {{}, {}, inputs[0], inputs[1], inputs[2]});
                     });
}

Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Norm& norm, const RowPlaces& places, const Dropout& dropout) {
  constexpr const char* kOp = "add_norm";
  check_rank(kOp, "x", x, 2);
  const AddNorm args{bias, residual, norm, places, dropout};
  check_add_norm(kOp, args, x.shape(), x.value().dtype());
  SavedNorm saved = saved_for(args, x.value().like(x.shape()));
  const Tensor y = run_add_norm(x.value(), args, saved);
  return make_result(
      kOp, y, {x, bias, residual, norm.weight, norm.beta},
      [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        norm_backward(saved, dy, {inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]});
      });
}

}  // namespace minibert
