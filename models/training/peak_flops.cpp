// peak_flops.cpp: one product, again and again.
#include "models/training/peak_flops.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/clock.h"
#include "core/kernels/gemm.h"
#include "core/tensor.h"

namespace minibert {

double probe_peak_flops() {
  constexpr int64_t kSize = 512;
  constexpr double kSeconds = 0.15;  // long enough to meet a moment without other work
  const Tensor a = Tensor::zeros({kSize, kSize}), b = Tensor::zeros({kSize, kSize}),
               c = Tensor::zeros({kSize, kSize});
  GemmArgs product;
  product.a = a;
  product.b = b;
  product.c = c;
  const double begin = seconds_now();
  double best = INFINITY;
  while (seconds_now() - begin < kSeconds) {
    const double start = seconds_now();
    gemm(product);
    best = std::min(best, seconds_now() - start);
  }
  return gemm_cost(product).flops / best;
}

}  // namespace minibert
