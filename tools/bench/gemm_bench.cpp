// gemm_bench.cpp: GFLOP/s of oneDNN's GEMM and of our own, on the shapes of a BERT-base step.
//   gemm_bench [threads [repeats]]     (1 and 5 where not given; a minute on one core)
// Takes the best of the repeats, the two implementations by turns. With one thread it counts that
// thread's CPU time, so that other work on the machine matters little; with more, wall time, which
// wants a quiet machine. Ends with 1 where our own falls below half of oneDNN's speed.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <time.h>

#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"
#include "core/parallel.h"

namespace minibert {
namespace {

struct Product {
  std::string name;
  int64_t M, N, K;
  bool transpose_a, transpose_b;
};

// Forward, dgrad and wgrad of a linear layer over T rows.
void add_layer(std::vector<Product>& products, const std::string& name, int64_t T, int64_t in,
               int64_t out) {
  products.push_back({name + " forward", T, out, in, false, true});
  products.push_back({name + " dgrad", T, in, out, false, false});
  products.push_back({name + " wgrad", out, in, T, true, false});
}

std::vector<Product> bert_base() {
  std::vector<Product> products;
  add_layer(products, "query, key, value", 1024, 768, 2304);
  add_layer(products, "attention output", 1024, 768, 768);
  add_layer(products, "feed-forward 1", 1024, 768, 3072);
  add_layer(products, "feed-forward 2", 1024, 3072, 768);
  add_layer(products, "decoder, 160 rows", 160, 768, 30528);
  return products;
}

double seconds(bool of_thread) {
  timespec now;
  clock_gettime(of_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Tensor ones(int64_t rows, int64_t columns) {
  const Tensor t = Tensor::empty({rows, columns});
  fill(t, 1.0f);
  return t;
}

// Best GFLOP/s of {the implementation of this build, our own}.
std::pair<double, double> measure(const Product& p, int threads, int repeats) {
  GemmArgs args;
  args.a = p.transpose_a ? ones(p.K, p.M) : ones(p.M, p.K);
  args.b = p.transpose_b ? ones(p.N, p.K) : ones(p.K, p.N);
  args.c = ones(p.M, p.N);
  args.transpose_a = p.transpose_a;
  args.transpose_b = p.transpose_b;
  double best[2] = {0, 0};
  for (int i = 0; i < 2 * (repeats + 1); ++i) {  // the first of each warms up
    gemm_force_builtin(i % 2 == 1);
    const double start = seconds(threads == 1);
    gemm(args);
    const double elapsed = seconds(threads == 1) - start;
    if (i >= 2) best[i % 2] = std::max(best[i % 2], gemm_flops(args) / elapsed / 1e9);
  }
  gemm_force_builtin(false);
  return {best[0], best[1]};
}

int run(int threads, int repeats) {
  set_num_threads(threads);
  fmt::print("{} against built-in, GFLOP/s, {} thread(s), best of {}\n", gemm_implementation(),
             threads, repeats);
  double lowest = INFINITY;
  for (const Product& p : bert_base()) {
    const auto [chosen, builtin] = measure(p, threads, repeats);
    lowest = std::min(lowest, builtin / chosen);
    fmt::print("{:<26} M {:>5} N {:>5} K {:>5} {:>8.1f} {:>8.1f}  ratio {:.2f}\n", p.name, p.M, p.N,
               p.K, chosen, builtin, builtin / chosen);
  }
  fmt::print("smallest ratio {:.2f}, expected at least 0.50\n", lowest);
  return lowest >= 0.5 ? 0 : 1;
}

}  // namespace
}  // namespace minibert

int main(int argc, char** argv) {
  try {
    return minibert::run(argc > 1 ? std::atoi(argv[1]) : 1,
                         std::max(1, argc > 2 ? std::atoi(argv[2]) : 5));
  } catch (const minibert::Error& error) {
    fmt::print(stderr, "gemm_bench: {}\n", error.what());
    return error.exit_code();
  }
}
