// elementwise.cpp: checks, costs, references of elementwise.h and the callers of its fast CPU
// versions (elementwise_simd.cpp).
#include "core/kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/dropout_mask.h"
#include "core/kernels/gelu.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// Elements (of add_bias and dropout_rows: rows) begin .. end - 1.
MB_SIMD_DECLARE(void, gelu_forward_block, (const GeluForward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, gelu_backward_block, (const GeluBackward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, tanh_forward_block, (const TanhForward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, tanh_backward_block, (const TanhBackward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, add_forward_block, (const AddForward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, multiply_block, (const MultiplyArgs& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, scale_block, (const ScaleArgs& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, add_bias_block, (const AddBiasForward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, dropout_rows_block, (const DropoutRows& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, fill_block, (const FillArgs& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, fill_from_block, (const FillFromArgs& args, int64_t begin, int64_t end))

namespace {

// `t` has the shape and the type of the op's first tensor x.
void check_same(const char* op, const Operand& x, const char* name, const Operand& t) {
  check_floating(op, "the first tensor", x);
  check_tensor(op, name, t, shape_of(x), "one shape and type for all tensors of the op", x.dtype());
}

void check(const GeluForward& args) {
  check_same("gelu_forward", args.x, "y", args.y);
}
void check(const GeluBackward& args) {
  check_same("gelu_backward", args.x, "dy", args.dy);
  check_same("gelu_backward", args.x, "dx", args.dx);
}
void check(const TanhForward& args) {
  check_same("tanh_forward", args.x, "y", args.y);
}
void check(const TanhBackward& args) {
  check_same("tanh_backward", args.y, "dy", args.dy);
  check_same("tanh_backward", args.y, "dx", args.dx);
}
void check(const AddForward& args) {
  check_same("add_forward", args.a, "b", args.b);
  check_same("add_forward", args.a, "y", args.y);
}
void check(const MultiplyArgs& args) {
  check_same("multiply", args.a, "b", args.b);
  check_same("multiply", args.a, "y", args.y);
}
void check(const ScaleArgs& args) {
  check_same("scale", args.x, "y", args.y);
}
void check(const AddBiasForward& args) {
  const DType dtype = args.x.dtype();
  check_compute("add_bias", "x", args.x, 2);
  check_tensor("add_bias", "bias", args.bias, {args.x.dim(1)}, "the last dimension of x", dtype);
  check_tensor("add_bias", "y", args.y, shape_of(args.x), "the shape of x", dtype);
}
void check(const DropoutRows& args) {
  const char* op = "dropout_rows";
  check_compute(op, "x", args.x, 2);
  check_tensor(op, "y", args.y, shape_of(args.x), "the shape of x", args.x.dtype());
  check_tensor(op, "position", args.position, {args.x.dim(0)}, "rows of x", DType::i32);
  check_tensor(op, "row_sample", args.row_sample, {args.x.dim(0)}, "rows of x", DType::i32);
}
void check(const FillArgs& args) {
  check_floating("fill", "y", args.y);
}
void check(const FillFromArgs& args) {
  check_type("fill_from", "scalar", args.scalar);
  MB_CHECK(args.scalar.numel() == 1, "fill_from: scalar is {}, expected one element",
           shape_of(args.scalar).str());
  check_floating("fill_from", "y", args.y);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
namespace {

// Every operand is moved once, y once more if it is added to.
Cost cost_of(double flops_an_element, std::initializer_list<const Operand*> inputs,
             const Operand& y, bool accumulate = false) {
  double bytes = (accumulate ? 2.0 : 1.0) * static_cast<double>(y.bytes());
  for (const Operand* input : inputs) bytes += static_cast<double>(input->bytes());
  return {(flops_an_element + (accumulate ? 1 : 0)) * static_cast<double>(y.numel()), bytes};
}

}  // namespace

Cost gelu_forward_cost(const GeluForward& args) {
  return cost_of(kGeluFlops, {&args.x}, args.y);
}
Cost gelu_backward_cost(const GeluBackward& args) {
  return cost_of(kGeluFlops + 1, {&args.x, &args.dy}, args.dx, args.accumulate);
}
Cost tanh_forward_cost(const TanhForward& args) {
  return cost_of(30, {&args.x}, args.y);
}
Cost tanh_backward_cost(const TanhBackward& args) {
  return cost_of(3, {&args.y, &args.dy}, args.dx, args.accumulate);
}
Cost add_forward_cost(const AddForward& args) {
  return cost_of(1, {&args.a, &args.b}, args.y);
}
Cost multiply_cost(const MultiplyArgs& args) {
  return cost_of(1, {&args.a, &args.b}, args.y, args.accumulate);
}
Cost scale_cost(const ScaleArgs& args) {
  return cost_of(1, {&args.x}, args.y, args.accumulate);
}
Cost add_bias_cost(const AddBiasForward& args) {
  return cost_of(1, {&args.x, &args.bias}, args.y);
}
Cost dropout_rows_cost(const DropoutRows& args) {
  return cost_of(20, {&args.x, &args.position, &args.row_sample}, args.y, args.accumulate);
}
Cost fill_cost(const FillArgs& args) {
  return cost_of(0, {}, args.y);
}
Cost fill_from_cost(const FillFromArgs& args) {
  return cost_of(0, {&args.scalar}, args.y, args.accumulate);
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

// y[i] = value(i), or y[i] += value(i).
template <typename Value>
void put_all(const Operand& y, bool accumulate, Value value) {
  for (int64_t i = 0; i < y.numel(); ++i) put(y, i, (accumulate ? get(y, i) : 0.0) + value(i));
}

}  // namespace

void gelu_forward_reference(const GeluForward& args) {
  check(args);
  put_all(args.y, false, [&](int64_t i) { return gelu_value(get(args.x, i), args.kind); });
}

void gelu_backward_reference(const GeluBackward& args) {
  check(args);
  put_all(args.dx, args.accumulate,
          [&](int64_t i) { return get(args.dy, i) * gelu_slope(get(args.x, i), args.kind); });
}

void tanh_forward_reference(const TanhForward& args) {
  check(args);
  put_all(args.y, false, [&](int64_t i) { return std::tanh(get(args.x, i)); });
}

void tanh_backward_reference(const TanhBackward& args) {
  check(args);
  put_all(args.dx, args.accumulate, [&](int64_t i) {
    const double y = get(args.y, i);
    return get(args.dy, i) * (1 - y * y);
  });
}

void add_forward_reference(const AddForward& args) {
  check(args);
  put_all(args.y, false, [&](int64_t i) { return get(args.a, i) + get(args.b, i); });
}

void multiply_reference(const MultiplyArgs& args) {
  check(args);
  put_all(args.y, args.accumulate, [&](int64_t i) { return get(args.a, i) * get(args.b, i); });
}

void scale_reference(const ScaleArgs& args) {
  check(args);
  put_all(args.y, args.accumulate,
          [&](int64_t i) { return get(args.x, i) * static_cast<double>(args.factor); });
}

void add_bias_reference(const AddBiasForward& args) {
  check(args);
  put_all(args.y, false,
          [&](int64_t i) { return get(args.x, i) + get(args.bias, i % args.x.dim(1)); });
}

void dropout_rows_reference(const DropoutRows& args) {
  check(args);
  const int64_t H = args.x.dim(1);
  put_all(args.y, args.accumulate, [&](int64_t i) {
    return dropped(get(args.x, i), hidden_dropout_factor(args.dropout, args.position,
                                                         args.row_sample, i / H, i % H));
  });
}

void fill_reference(const FillArgs& args) {
  check(args);
  put_all(args.y, false, [&](int64_t) { return static_cast<double>(args.value); });
}

void fill_from_reference(const FillFromArgs& args) {
  check(args);
  put_all(args.y, args.accumulate, [&](int64_t) { return get(args.scalar, 0); });
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

constexpr int64_t kBlock = 16384;  // elements a thread works on at a time: three arrays fit L2

// Rows of a block of x [T, H], so that it has about kBlock elements.
int64_t rows_of_block(const Operand& x) {
  return std::max<int64_t>(1, kBlock / std::max<int64_t>(1, x.dim(1)));
}

// Runs one map: `cpu` on blocks of `grain` of the n elements or rows.
template <typename Args>
void run(const char* op, const Args& args, const Operand& y, Cost (*cost)(const Args&),
         void (*cpu)(const Args&, int64_t, int64_t), void (*cuda)(const Args&, Stream), int64_t n,
         int64_t grain) {
  dispatch(
      op, y.device(), [&] { return cost(args); },
      [&] { parallel_for(n, grain, [&](int64_t begin, int64_t end) { cpu(args, begin, end); }); },
      [&](Stream stream) { cuda(args, stream); });
}

}  // namespace

void gelu_forward(const GeluForward& args) {
  check(args);
  run("gelu_forward", args, args.y, gelu_forward_cost, MB_SIMD(gelu_forward_block),
      gelu_forward_cuda, args.y.numel(), kBlock);
}

void gelu_backward(const GeluBackward& args) {
  check(args);
  run("gelu_backward", args, args.dx, gelu_backward_cost, MB_SIMD(gelu_backward_block),
      gelu_backward_cuda, args.dx.numel(), kBlock);
}

void tanh_forward(const TanhForward& args) {
  check(args);
  run("tanh_forward", args, args.y, tanh_forward_cost, MB_SIMD(tanh_forward_block),
      tanh_forward_cuda, args.y.numel(), kBlock);
}

void tanh_backward(const TanhBackward& args) {
  check(args);
  run("tanh_backward", args, args.dx, tanh_backward_cost, MB_SIMD(tanh_backward_block),
      tanh_backward_cuda, args.dx.numel(), kBlock);
}

void add_forward(const AddForward& args) {
  check(args);
  run("add_forward", args, args.y, add_forward_cost, MB_SIMD(add_forward_block), add_forward_cuda,
      args.y.numel(), kBlock);
}

void multiply(const MultiplyArgs& args) {
  check(args);
  run("multiply", args, args.y, multiply_cost, MB_SIMD(multiply_block), multiply_cuda,
      args.y.numel(), kBlock);
}

void scale(const ScaleArgs& args) {
  check(args);
  run("scale", args, args.y, scale_cost, MB_SIMD(scale_block), scale_cuda, args.y.numel(), kBlock);
}

void add_bias(const AddBiasForward& args) {
  check(args);
  run("add_bias", args, args.y, add_bias_cost, MB_SIMD(add_bias_block), add_bias_cuda,
      args.y.dim(0), rows_of_block(args.y));
}

void dropout_rows(const DropoutRows& args) {
  check(args);
  run("dropout_rows", args, args.y, dropout_rows_cost, MB_SIMD(dropout_rows_block),
      dropout_rows_cuda, args.y.dim(0), rows_of_block(args.y));
}

void fill(const FillArgs& args) {
  check(args);
  run("fill", args, args.y, fill_cost, MB_SIMD(fill_block), fill_cuda, args.y.numel(), kBlock);
}

void fill_from(const FillFromArgs& args) {
  check(args);
  run("fill_from", args, args.y, fill_from_cost, MB_SIMD(fill_from_block), fill_from_cuda,
      args.y.numel(), kBlock);
}

}  // namespace minibert
