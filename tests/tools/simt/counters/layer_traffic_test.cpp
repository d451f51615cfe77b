// layer_traffic_test.cpp: what one encoder layer of BERT moves and multiplies, forward and backward, in
// bf16 with dropout on packed sequences, counted by the engine of tools/simt; our GEMM alone.
// What is compared: `distinct` of counters.h, the sectors that each launch touches, each once. A launch
// of a whole micro-batch reads and writes more than any L2 cache holds, so this is what crosses the
// bus; it is also what a model of "each tensor moved once" counts: 45 H bytes a token in well fused
// code. That model leaves out what products and attention must move in any case, so the operands and
// the result of each product are taken off, and attention's kernels are listed apart.
// Bytes are a straight line in the tokens T from 4,224 on, where the blocks of all sums over rows are
// as many as they get. Its slope is a token's share; the rest (weights, partial sums) belongs to the
// micro-batch, here of 16,384 tokens as on one GPU. Two runs at H = 128 give both: all counts but
// those of vectors [T] are in proportion to H, and these weigh a sixth as much at BERT-base's 768. The
// emulated chip has 8 multiprocessors, so that these runs fill it as a micro-batch fills a GPU, and no
// product of tokens is split. FLOPs are counted at BERT-base's own sizes.
// docs/results/README.md has the command that prints the tables.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "autograd/tape.h"
#include "core/device_stream.h"
#include "core/kernels/copy.h"
#include "core/kernels/gemm_cuda_choice.h"
#include "nn/init.h"
#include "nn/modules.h"
#include "tools/simt/control.h"
#include "tools/simt/counters/counters.h"

namespace minibert {
namespace {

constexpr double kMicroBatch = 16384;  // tokens
constexpr double kFusedMinimum = 45;   // H bytes a token: the least of element-wise code
constexpr double kReached = 1.15;

Tensor on_cuda(const Tensor& host) {
  const Tensor there =
      Tensor::empty(host.shape(), host.dtype(), MemoryCategory::activations, Device::cuda);
  copy_to_device(host.raw(), there);
  return there;
}

Tensor integers(int64_t count, const std::function<int32_t(int64_t)>& value) {
  Tensor t = Tensor::empty({count}, DType::i32);
  for (int64_t i = 0; i < count; ++i) t.data<int32_t>()[i] = value(i);
  return on_cuda(t);
}

Tensor random_rows(int64_t T, int64_t H, uint64_t seed) {
  RandomStream random(seed, StreamPurpose::user, 0);
  Tensor t = Tensor::empty({T, H});
  for (float& x : t.span<float>()) x = 2 * random.uniform() - 1;
  return on_cuda(t.to(DType::bf16));
}

/// What a layer launched, in order.
struct Launches {
  std::vector<simt::LaunchCounts> forward, backward;
};

struct Layer {
  int64_t H, F, heads;
  std::vector<int64_t> lengths;  // of the sequences
  int64_t tokens() const {
    int64_t sum = 0;
    for (const int64_t length : lengths) sum += length;
    return sum;
  }
};

Launches run(const Layer& sizes) {
  const int64_t T = sizes.tokens(), B = static_cast<int64_t>(sizes.lengths.size());
  const DeviceStream stream(compute_options(Precision::bf16, Device::cuda));
  EncoderLayer layer(sizes.H, sizes.F, static_cast<int>(sizes.heads), 1e-12f, Gelu::erf);
  ParameterTable table;
  std::vector<Initializer> initializers;
  ParameterWalk declare(table, initializers);
  layer.parameters(declare);
  Arena arena(table, DType::bf16, Device::cuda);
  arena.with_gradients();
  std::vector<Variable> leaves;
  ParameterWalk bind(arena, leaves);
  layer.parameters(bind);
  initialize_parameters(arena, initializers, 0.02f, 1);

  std::vector<int64_t> first{0};
  for (const int64_t length : sizes.lengths) first.push_back(first.back() + length);
  const auto sequence_of = [&](int64_t t) {
    return std::upper_bound(first.begin(), first.end(), t) - first.begin() - 1;
  };
  const Sequences sequences{
      integers(B + 1,
               [&](int64_t i) { return static_cast<int32_t>(first[static_cast<size_t>(i)]); }),
      integers(B, [](int64_t i) { return static_cast<int32_t>(i); })};
  const RowPlaces places{
      integers(T,
               [&](int64_t t) {
                 const auto sequence = static_cast<size_t>(sequence_of(t));
                 return static_cast<int32_t>(t - first[sequence]);
               }),
      integers(T, [&](int64_t t) { return static_cast<int32_t>(sequence_of(t)); })};
  const auto site = [](DropoutPurpose purpose) {
    return make_dropout(0.1f, 7, nullptr, 0, purpose);
  };
  const LayerDropout dropout{site(DropoutPurpose::attention),
                             site(DropoutPurpose::attention_output),
                             site(DropoutPurpose::feed_forward)};

  // x stands between two layers, as in a model: its gradient is of the compute type. The op that makes
  // it does nothing but say when the layer's backward has ended.
  const simt::Counters counters;
  size_t end = 0;
  const Variable below = Variable::leaf(random_rows(T, sizes.H, 2));
  const Variable x = make_result(
      "below", random_rows(T, sizes.H, 3), {below},
      [&](const Tensor&, std::vector<GradientTarget>&) { end = counters.launches().size(); });
  const size_t begin = counters.launches().size();
  const Variable y = layer(x, sequences, places, dropout);
  const size_t middle = counters.launches().size();
  const Tensor dy = random_rows(T, sizes.H, 4);
  const size_t backward = counters.launches().size();
  run_tape(y, dy, {}, true);
  const auto at = [&](size_t i) { return counters.launches().begin() + static_cast<ptrdiff_t>(i); };
  return {{at(begin), at(middle)}, {at(backward), at(end)}};
}

enum class Kind { elementwise, product, weight_gradient, attention };

/// A row of the table: a kernel in one direction.
struct Row {
  Kind kind = Kind::elementwise;
  int launches = 0;
  double read = 0, written = 0, requested = 0;  // bytes
  double flops = 0;
};
const std::set<std::string> kAttention = {"forward_tensor", "delta_rows", "keys_tensor",
                                          "queries_tensor"};
using Rows = std::map<std::pair<std::string, std::string>, Row>;  // by direction and kernel

void add(Rows& rows, const std::string& direction,
         const std::vector<simt::LaunchCounts>& launches) {
  bool of_weights = false;  // the last product
  for (const simt::LaunchCounts& counts : launches) {
    const std::string name = counts.kernel.substr(0, counts.kernel.find('<'));
    EXPECT_GT(counts.read.distinct, 0u) << name << " was not compiled to be counted";
    if (name == "gemm_mma_kernel")
      of_weights = counts.kernel.find("false, false, ") != std::string::npos;
    const bool product = name.starts_with("gemm_");
    const bool weights = product && of_weights && name != "gemm_column_sums_kernel";
    Row& row = rows[{direction, name + (weights ? ", weights" : "")}];
    row.kind = weights                     ? Kind::weight_gradient
               : product                   ? Kind::product
               : kAttention.contains(name) ? Kind::attention
                                           : Kind::elementwise;
    ++row.launches;
    row.read += simt::kSectorBytes * static_cast<double>(counts.read.distinct);
    row.written += simt::kSectorBytes * static_cast<double>(counts.written.distinct);
    row.requested +=
        simt::kSectorBytes * static_cast<double>(counts.read.requested + counts.written.requested);
    row.flops += static_cast<double>(counts.tensor_flops);
  }
}

Rows rows_of(const Layer& layer) {
  simt::DeviceModel chip = simt::device_model(80);
  chip.multiprocessors = 8;
  simt::set_device_model(chip);
  gemm_cuda_use(GemmCudaBackend::ours);
  const Launches launches = run(layer);
  Rows rows;
  add(rows, "forward", launches.forward);
  add(rows, "backward", launches.backward);
  return rows;
}

std::vector<int64_t> sequences(int64_t count) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) lengths.push_back(i % 2 ? 48 : 128);
  return lengths;
}

// Bytes that the four products of a layer must move, forward or for the gradients of their inputs.
double products_bytes(double T, double H, double F) {
  const double activations = T * (H + 3 * H + H + H + H + F + F + H),
               weights = 4 * H * H + 2 * H * F;
  return 2 * (activations + weights);
}

class LayerTraffic : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
};

TEST_F(LayerTraffic, ElementwiseBytesAToken) {
  const Layer small{128, 512, 2, sequences(48)}, large{128, 512, 2, sequences(96)};
  const Rows a = rows_of(small), b = rows_of(large);
  const double H = 128, F = 512, Ta = static_cast<double>(small.tokens()),
               Tb = static_cast<double>(large.tokens());
  // c + s T through both runs, at the micro-batch, in H bytes a token.
  const auto a_token = [&](double at_a, double at_b) {
    const double slope = (at_b - at_a) / (Tb - Ta), constant = at_a - slope * Ta;
    return (slope + constant / kMicroBatch) / H;
  };
  fmt::print(
      "bytes a token / H: bf16, dropout 0.1, sequences of 128 and 48, {:.0f} tokens\n"
      "direction kernel                               launches    read written   sum  "
      "requested/distinct\n",
      kMicroBatch);
  double elementwise = 0, attention = 0;
  std::map<std::string, double> products;
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [key, row] : a) {
    ASSERT_TRUE(b.contains(key)) << key.second;
    const Row& other = b.at(key);
    if (row.kind != Kind::weight_gradient) {  // these may be split over K, which is T
      EXPECT_EQ(row.launches, other.launches) << key.second;
    }
    const double read = a_token(row.read, other.read),
                 written = a_token(row.written, other.written);
    fmt::print("{:9} {:37} {:7} {:7.2f} {:7.2f} {:7.2f} {:7.2f}\n", key.first, key.second,
               row.launches, read, written, read + written,
               other.requested / (other.read + other.written));
    if (row.kind == Kind::elementwise) elementwise += read + written;
    if (row.kind == Kind::attention) attention += read + written;
    if (row.kind == Kind::product) products[key.first] += read + written;
    // The operands of the four weight gradients, dy and x of each, once: 32 H bytes a token.
    if (key.second == "gemm_mma_kernel, weights") {
      EXPECT_NEAR((other.read - row.read) / (Tb - Ta) / H, 32, 1e-9);
    }
  }
  const double own = a_token(products_bytes(Ta, H, F), products_bytes(Tb, H, F));
  double epilogues = 0;
  for (const auto& [direction, bytes] : products) {
    fmt::print("{} epilogues move {:.2f}\n", direction, bytes - own);
    EXPECT_GE(bytes, own) << "a product did not read its operands";
    epilogues += bytes - own;
  }
  const double sum = elementwise + epilogues;
  fmt::print(
      "attention {:.2f}; element-wise kernels {:.2f}, epilogues {:.2f}, together {:.2f}: {:.2f} x "
      "the fused minimum of {}\n",
      attention, elementwise, epilogues, sum, sum / kFusedMinimum, kFusedMinimum);
  EXPECT_GE(sum, kFusedMinimum) << "less than the minimum: something was not counted";
  EXPECT_LE(sum, kReached * kFusedMinimum);
}

TEST_F(LayerTraffic, TensorFlopsOfBertBase) {
  const Layer base{768, 3072, 12, {128, 96, 32}};
  const Rows rows = rows_of(base);
  const double H = 768, F = 3072, T = static_cast<double>(base.tokens());
  double squares = 0;
  for (const int64_t S : base.lengths) squares += static_cast<double>(S * S);
  double flops = 0;
  int launches[2] = {};
  for (const auto& [key, row] : rows) {
    flops += row.flops;
    launches[key.first == "backward"] += row.launches;
    if (row.flops > 0)
      fmt::print("{:9} {:37} {:7} {:10.2f} MFLOP a token\n", key.first, key.second, row.launches,
                 row.flops / T / 1e6);
  }
  const double formula = 6 * T * (4 * H * H + 2 * H * F) + 12 * H * squares;
  fmt::print("tensor FLOPs {:.4f} x the formula; launches: forward {}, backward {}\n",
             flops / formula, launches[0], launches[1]);
  EXPECT_GE(flops, 6 * T * (4 * H * H + 2 * H * F));
  EXPECT_LE(flops / formula, 1.02);
}

}  // namespace
}  // namespace minibert
