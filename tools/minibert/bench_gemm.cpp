// bench_gemm.cpp: `minibert bench gemm`: the matrix products of a BERT-base step, by oneDNN and by
// our own blocked kernel, in turns; with --device cuda by cuBLASLt and by our tensor-core kernels.
// Test: ctest -R tools_bench.
#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/kernels/gemm.h"
#include "core/kernels/gemm_backend.h"
#include "core/kernels/gemm_cuda_choice.h"
#include "core/parallel.h"
#include "core/precision.h"
#include "core/tensor.h"
#include "tools/minibert/bench.h"

namespace minibert {
namespace {

struct Options {
  bool json = false;
  std::string dtype = "f32", device = "cpu";
  int threads = 0;
  double seconds = 0.5;
  int64_t tokens = 1024, hidden = 768, vocab = 30528;
};

/// One product of a linear layer of N outputs and K inputs on T rows.
struct Product {
  const char* layer;
  const char* what;  // y = x weight^T, dx = dy weight, dweight = dy^T x
  int64_t M, N, K;
  bool transpose_a, transpose_b;
};

std::vector<Product> products_of(const char* layer, int64_t T, int64_t N, int64_t K) {
  return {{layer, "y", T, N, K, false, true},
          {layer, "dx", T, K, N, false, false},
          {layer, "dweight", N, K, T, true, false}};
}

/// A product's operands. Those of a 16-bit type have the types of training: a weight's gradient is
/// f32, all else is of that type.
struct Operands {
  Tensor a, b, c;
  GemmArgs args;
};

Operands operands_of(const Product& p, DType type, Device device) {
  const auto zeros = [&](int64_t rows, int64_t columns, DType dtype) {
    return Tensor::zeros({rows, columns}, dtype, MemoryCategory::activations, device);
  };
  Operands x;
  x.a = p.transpose_a ? zeros(p.K, p.M, type) : zeros(p.M, p.K, type);
  x.b = p.transpose_b ? zeros(p.N, p.K, type) : zeros(p.K, p.N, type);
  x.c = zeros(p.M, p.N, p.transpose_a ? DType::f32 : type);
  x.args.a = x.a;
  x.args.b = x.b;
  x.args.c = x.c;
  x.args.transpose_a = p.transpose_a;
  x.args.transpose_b = p.transpose_b;
  return x;
}

/// Who multiplies: a library, or our own kernels.
enum class By { library, ours };

double gflops(const GemmArgs& args, By by, double seconds) {
  gemm_use(by == By::library ? GemmBackend::onednn : GemmBackend::builtin);
  const Timing timing = time_of([] {}, [&] { gemm(args); }, seconds);
  gemm_use(GemmBackend::fastest);
  return gemm_cost(args).flops / timing.median / 1e9;
}
double gflops(const GemmArgs& args, By by, double seconds, DeviceStream& stream) {
  gemm_cuda_use(by == By::library ? GemmCudaBackend::cublaslt : GemmCudaBackend::ours);
  const Timing timing = device_time_of([&] { gemm(args); }, stream, seconds);
  gemm_cuda_use(GemmCudaBackend::fastest);
  return gemm_cost(args).flops / timing.median / 1e9;
}

void print(const Product& p, const std::string& dtype, bool json, bool has_library, double library,
           double builtin) {
  const std::string shape = fmt::format("M={} N={} K={}", p.M, p.N, p.K);
  if (!json) {
    fmt::print("{:<12} {:<8} {:<24} {:>9} {:>9.1f} {:>6}\n", p.layer, p.what, shape,
               has_library ? fmt::format("{:.1f}", library) : "-", builtin,
               has_library ? fmt::format("{:.2f}", builtin / library) : "-");
    return;
  }
  nlohmann::ordered_json line = {{"layer", p.layer},         {"product", p.what},
                                 {"sizes", shape},           {"dtype", dtype},
                                 {"threads", num_threads()}, {"builtin_gflops_per_s", builtin}};
  if (has_library) line["library_gflops_per_s"] = library;
  fmt::print("{}\n", line.dump());
}

/// What multiplies on a device: has a library, its name, and the name of ours.
struct Rivals {
  bool has_library;
  std::string library, ours;
};
Rivals rivals(const ComputeOptions& compute) {
  if (compute.device == Device::cuda) {
    gemm_cuda_use(GemmCudaBackend::cublaslt);
    const std::string library = gemm_cuda_implementation();
    gemm_cuda_use(GemmCudaBackend::fastest);
    return {true, library, "ours"};
  }
  const bool has_library = gemm_onednn_multiplies(compute.dtype);
  gemm_use(GemmBackend::builtin);
  const std::string ours = gemm_implementation(compute.dtype);
  gemm_use(GemmBackend::fastest);
  return {has_library, has_library ? gemm_onednn_description() : "no library", ours};
}

void run(const Options& options) {
  MB_CHECK(options.seconds > 0, "bench gemm: --seconds is {}, expected more than 0",
           options.seconds);
  MB_CHECK(options.tokens >= 1 && options.hidden >= 1 && options.vocab >= 1,
           "bench gemm: --tokens, --hidden and --vocab are {}, {} and {}, expected 1 or more",
           options.tokens, options.hidden, options.vocab);
  if (options.threads != 0) set_num_threads(options.threads);
  const ComputeOptions compute = compute_options(options.dtype == "f32"    ? Precision::fp32
                                                 : options.dtype == "tf32" ? Precision::tf32
                                                 : options.dtype == "bf16" ? Precision::bf16
                                                                           : Precision::fp16,
                                                 parse_device(options.device));
  DeviceStream stream(compute);
  const Rivals who = rivals(compute);
  if (!options.json) {
    fmt::print("{}: {} against {}, {} threads, GFLOP/s\n", options.dtype, who.library, who.ours,
               num_threads());
    fmt::print("{:<12} {:<8} {:<24} {:>9} {:>9} {:>6}\n", "layer", "product", "sizes", "library",
               "built-in", "ratio");
  }
  const int64_t H = options.hidden, F = 4 * H, V = options.vocab;
  const int64_t T = options.tokens, P = std::max<int64_t>(1, T * 15 / 100);
  for (const auto& products :
       {products_of("qkv", T, 3 * H, H), products_of("output", T, H, H), products_of("up", T, F, H),
        products_of("down", T, H, F), products_of("decoder", P, V, H)}) {
    for (const Product& product : products) {
      const Operands operands = operands_of(product, compute.dtype, compute.device);
      const auto rate = [&](By by) {
        const double seconds = options.seconds / 2;
        return compute.device == Device::cuda ? gflops(operands.args, by, seconds, stream)
                                              : gflops(operands.args, by, seconds);
      };
      const double theirs = who.has_library ? rate(By::library) : 0;
      print(product, options.dtype, options.json, who.has_library, theirs, rate(By::ours));
    }
  }
}

}  // namespace

void add_bench_gemm(CLI::App& bench) {
  auto* sub =
      bench.add_subcommand("gemm", "the products of a BERT step, by a library and built-in");
  auto options = std::make_shared<Options>();
  sub->add_flag("--json", options->json, "one JSON object a line");
  sub->add_option("--dtype", options->dtype, "of the operands")
      ->check(CLI::IsMember({"f32", "tf32", "bf16", "f16"}))
      ->capture_default_str();
  sub->add_option("--threads", options->threads, "default: what this process may use");
  sub->add_option("--seconds", options->seconds, "to spend on each product")->capture_default_str();
  sub->add_option("--tokens", options->tokens, "of the batch")->capture_default_str();
  sub->add_option("--hidden", options->hidden, "size of a layer; feed-forward has four times it")
      ->capture_default_str();
  sub->add_option("--vocab", options->vocab, "rows of the decoder")->capture_default_str();
  sub->add_option("--device", options->device, "cpu or cuda")->capture_default_str();
  sub->callback([options] { run(*options); });
}

}  // namespace minibert
