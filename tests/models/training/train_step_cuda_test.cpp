// train_step_cuda_test.cpp: a small BERT trains on device cuda as it does on the CPU: the same losses,
// gradients as exact as the CPU's in the same type, in every precision and head size; a graph, a lazy
// and a random order of the streams give the same bits; weights and moments go from one device to the
// other. Runs on the engine of tools/simt or on a GPU.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "core/device_stream.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/parallel.h"
#include "models/training/train_step.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/models/training/tiny_data.h"
#include "tests/tolerance.h"
#ifdef MINIBERT_SIMT
#include "tools/simt/control.h"
#endif

namespace minibert {
namespace {

namespace fs = std::filesystem;

struct Case {
  Precision precision;
  const char* optimizer;
  int64_t hidden, heads;  // head size: hidden / heads
};

std::string name_of(const Case& c) {
  return fmt::format("{} {} D {}", name_of(c.precision), c.optimizer, c.hidden / c.heads);
}

BertConfig config_of(const Case& c) {
  BertConfig config = BertConfig::named("bert-tiny");  // 2 layers, dropout 0.1 everywhere
  config.vocab_size = 5 + testing::kTinyWords;
  config.hidden_size = c.hidden;
  config.num_attention_heads = c.heads;
  config.intermediate_size = 2 * c.hidden;
  config.max_position_embeddings = 24;
  return config;
}

constexpr int64_t kSteps = 50;

/// A model and all that trains it, on one device.
struct Side {
  ComputeOptions compute;
  DeviceStream stream;
  BertForPreTraining model;
  Optimizer optimizer;
  TrainStep step;

  Side(const Case& c, Device device, bool graph = false, Recompute recompute = Recompute::none)
      : Side(c,
             device == Device::cpu && c.precision == Precision::tf32
                 ? ComputeOptions{}
                 : compute_options(c.precision, device),
             graph, recompute) {}
  Side(const Case& c, ComputeOptions compute, bool graph, Recompute recompute)
      : compute(compute),
        stream(compute),
        model(config_of(c), ModelUse::training, {}, compute),
        optimizer(
            model.arena(), {.name = c.optimizer},
            Schedule(
                {.name = "linear", .learning_rate = 2e-3f, .warmup = 5, .total_steps = kSteps}),
            {.enabled = c.precision == Precision::fp16, .initial = 4096}),
        step(model, optimizer, {.seed = 5, .nsp = true, .recompute = recompute, .graph = graph}) {
    model.initialize(11);
  }

  /// Weights, moments and counters of another device's run.
  void take(const Side& other) {
    for (int i = 0; i < model.arena().table().count(); ++i) {
      std::vector<float> values(static_cast<size_t>(model.arena().table()[i].used()));
      other.model.arena().read(i, values);
      model.arena().write(i, values);
    }
    model.arena().refresh();
    optimizer.load_state(other.optimizer.state());
    step.write(other.step.read());
  }
  Tensor masters() const { return model.arena().masters().host_copy(); }
  Tensor gradients() const { return model.arena().gradients().host_copy(); }
  double loss() const {
    const StepState state = step.read();
    return state.mlm.loss_sum / static_cast<double>(state.mlm.rows) +
           state.nsp.loss_sum / static_cast<double>(state.nsp.rows);
  }
};

class CudaTrainStep : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new fs::path(fs::path(::testing::TempDir()) / "minibert_cuda_train_step");
    fs::remove_all(*folder_);
    data_ = new std::shared_ptr<const ShardSet>(ShardSet::open(testing::build_tiny_data(*folder_)));
  }
  static void TearDownTestSuite() {
    fs::remove_all(*folder_);
    delete folder_;
    delete data_;
  }
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }

  /// Sequences of 5 to 24 tokens, four to a micro-batch, two of them a step.
  static GlobalStep batch(int64_t number, bool fixed_shapes = false) {
    const Loader loader(
        *data_,
        {.global_batch_size = 8, .micro_batch_size = 4, .seed = 3, .fixed_shapes = fixed_shapes});
    return loader.load(number);
  }
  static fs::path* folder_;
  static std::shared_ptr<const ShardSet>* data_;
};
fs::path* CudaTrainStep::folder_ = nullptr;
std::shared_ptr<const ShardSet>* CudaTrainStep::data_ = nullptr;

/// |a - b| / |b| of one parameter; `a_scale` and `b_scale` divide first.
double difference(const ParameterSlice& slice, const Tensor& a, double a_scale, const Tensor& b,
                  double b_scale) {
  double square = 0, of = 0;
  for (int64_t i = slice.offset; i < slice.offset + slice.used(); ++i) {
    const double x = a.data<float>()[i] / a_scale, y = b.data<float>()[i] / b_scale;
    square += (x - y) * (x - y), of += y * y;
  }
  return std::sqrt(square / of);
}

const Case kCases[] = {
    {Precision::fp32, "lamb", 64, 2},  {Precision::fp32, "adamw", 128, 2},
    {Precision::fp32, "lamb", 128, 1}, {Precision::tf32, "lamb", 128, 2},
    {Precision::bf16, "lamb", 128, 2}, {Precision::bf16, "adamw", 128, 1},
    {Precision::fp16, "lamb", 64, 2},  {Precision::fp16, "adamw", 128, 2},
};

// Both from the same weights. The truth is the CPU's f32. In f32 the devices differ in the order of
// their sums; in a type of fewer bits the device's error may be 1.5 times what the CPU makes in that
// type, and with tf32 every product's factors are rounded to 10 bits.
TEST_F(CudaTrainStep, GradientsAreAsExactAsTheCpus) {
  const GemmCudaBackend before = gemm_cuda_backend();
  for (int i = 0; i < 2 * static_cast<int>(std::size(kCases)); ++i) {
    const Case& c = kCases[i / 2];
    const GemmCudaBackend backend = i % 2 == 0 ? GemmCudaBackend::ours : GemmCudaBackend::cublaslt;
    gemm_cuda_use(backend);
    SCOPED_TRACE(name_of(c) + (backend == GemmCudaBackend::ours ? ", our GEMM" : ", cuBLASLt"));
    const GlobalStep samples = batch(7);
    Case exact = c;
    exact.precision = Precision::fp32;
    Side truth(exact, Device::cpu), cpu(c, Device::cpu), cuda(c, Device::cuda);
    for (Side* side : {&truth, &cpu, &cuda}) side->step.accumulate(samples, 7);
    const double scale = cuda.step.read().loss_scale;
    const bool short_type = is_floating(cuda.compute.dtype) && cuda.compute.dtype != DType::f32;
    const double loss_tolerance = c.precision == Precision::bf16
                                      ? testing::Tolerance::model_loss_bf16
                                  : c.precision == Precision::fp16 || c.precision == Precision::tf32
                                      ? testing::Tolerance::model_loss_f16
                                      : testing::Tolerance::model;
    EXPECT_NEAR(cuda.loss() / truth.loss(), 1, loss_tolerance);
    const Tensor g = cuda.gradients(), g_cpu = cpu.gradients(), g_truth = truth.gradients();
    double worst = 0;
    std::string worst_name;
    for (const ParameterSlice& slice : cuda.model.arena().table().slices()) {
      if (slice.name.ends_with("key.bias")) continue;  // zero in exact arithmetic
      const double error = difference(slice, g, scale, g_truth, 1);
      const double allowed = short_type ? 1.5 * difference(slice, g_cpu, scale, g_truth, 1)
                             : c.precision == Precision::tf32 ? 4 * testing::Tolerance::tf32
                                                              : testing::Tolerance::model;
      EXPECT_LE(error, allowed) << slice.name;
      if (error / allowed > worst) worst = error / allowed, worst_name = slice.name;
    }
    fmt::print("{}: largest share of tolerance {:.2f} at {}\n", name_of(c), worst, worst_name);
  }
  gemm_cuda_use(before);
}

// Weights, moments and counters of 3 steps on one device go on on the other: the curves stay together.
TEST_F(CudaTrainStep, TrainsAsTheCpuDoesAndGoesOnThere) {
  for (const Case& c : {kCases[0], kCases[3], kCases[5], kCases[6]}) {
    SCOPED_TRACE(name_of(c));
    Side cpu(c, Device::cpu), cuda(c, Device::cuda);
    for (int64_t i = 0; i < 3; ++i) cpu.step.run(batch(i), i);
    cuda.take(cpu);
    EXPECT_TRUE(testing::same_bits(cuda.masters(), cpu.masters()));
    double first = 0, largest = 0;
    for (int64_t i = 3; i < kSteps; ++i) {
      const GlobalStep samples = batch(i);
      cpu.step.run(samples, i), cuda.step.run(samples, i);
      if (i == 3) first = cuda.loss();
      largest = std::max(largest, std::abs(cuda.loss() / cpu.loss() - 1));
    }
    EXPECT_EQ(cuda.step.read().applied_steps, cpu.step.read().applied_steps);
    fmt::print("{}: loss {:.3f} to {:.3f} (cpu {:.3f}), largest difference {:.2g}\n", name_of(c),
               first, cuda.loss(), cpu.loss(), largest);
    EXPECT_LT(largest, c.precision == Precision::fp32   ? testing::Tolerance::model
                       : c.precision == Precision::bf16 ? testing::Tolerance::model_loss_bf16
                                                        : testing::Tolerance::model_loss_f16);
    Side back(c, Device::cpu);
    back.take(cuda);
    EXPECT_TRUE(testing::same_bits(back.masters(), cuda.masters()));
    back.step.run(batch(kSteps), kSteps);
  }
}

// An overflow in the middle: the step is skipped on the device, and the scale halves.
TEST_F(CudaTrainStep, SkipsAStepThatOverflows) {
  Side cuda({Precision::fp16, "lamb", 64, 2}, Device::cuda);
  cuda.step.run(batch(0), 0);
  StepState state = cuda.step.read();
  EXPECT_EQ(state.applied_steps, 1);
  state.loss_scale = 0x1p40f;
  cuda.step.write(state);
  const Tensor before = cuda.masters();
  cuda.step.run(batch(1), 1);
  state = cuda.step.read();
  EXPECT_EQ(state.applied, 0u);
  EXPECT_EQ(state.skipped_steps, 1);
  EXPECT_EQ(state.loss_scale, 0x1p39f);
  EXPECT_TRUE(testing::same_bits(cuda.masters(), before));
}

// A graph is the same kernels in the same order.
TEST_F(CudaTrainStep, GraphReplaysTheSameBits) {
  for (const Case& c : {kCases[0], kCases[4], kCases[7]}) {
    SCOPED_TRACE(name_of(c));
    Side eager(c, Device::cuda), graph(c, Device::cuda, /* graph= */ true);
    for (int64_t i = 0; i < 6; ++i) {
      const GlobalStep samples = batch(i, /* fixed_shapes= */ true);
      eager.step.run(samples, i), graph.step.run(samples, i);
      EXPECT_EQ(eager.loss(), graph.loss()) << i;
    }
    EXPECT_EQ(graph.step.read().applied_steps, 6);
    EXPECT_TRUE(testing::same_bits(graph.masters(), eager.masters()));
  }
}

// Layers that are computed again in backward are part of the graph, and so is the memory that the
// system would have got back meanwhile.
TEST_F(CudaTrainStep, AGraphRecomputesAndKeepsItsMemory) {
  const Case& c = kCases[4];
  Side eager(c, Device::cuda), graph(c, Device::cuda, /* graph= */ true, Recompute::layer);
  for (int64_t i = 0; i < 4; ++i) {
    const GlobalStep samples = batch(i, /* fixed_shapes= */ true);
    eager.step.run(samples, i), graph.step.run(samples, i);
    Allocator::instance().release_cache();
    const Tensor other =
        Tensor::zeros({1 << 16}, DType::f32, MemoryCategory::workspace, Device::cuda);
  }
  EXPECT_TRUE(testing::same_bits(graph.masters(), eager.masters()));
}

// A step that is expected is copied ahead; another may come all the same.
TEST_F(CudaTrainStep, ExpectingAStepChangesNoBit) {
  const Case& c = kCases[4];
  Side plain(c, Device::cuda), ahead(c, Device::cuda);
  const int64_t expected[] = {1, 2, 7, 4};  // 7 does not come
  for (int64_t i = 0; i < 4; ++i) {
    plain.step.run(batch(i), i), ahead.step.run(batch(i), i);
    ahead.step.expect(batch(expected[i]));
    EXPECT_EQ(ahead.loss(), plain.loss()) << i;
  }
  EXPECT_TRUE(testing::same_bits(ahead.masters(), plain.masters()));
}

#ifdef MINIBERT_SIMT
// The host never waits inside a step, so work may run late, or in any order that the stream allows.
TEST_F(CudaTrainStep, LateAndRandomStreamsGiveTheSameBits) {
  const Case& c = kCases[4];
  // As the trainer does, with each next batch on its way in the copies' stream.
  const auto train = [&](simt::Schedule schedule, uint64_t seed, bool graph) {
    simt::set_schedule(schedule, seed);
    Side side(c, Device::cuda, graph);
    for (int64_t i = 0; i < 4; ++i) {
      side.step.run(batch(i, graph), i);
      side.step.expect(batch(i + 1, graph));
      if (i == 1) side.step.read();
    }
    const Tensor masters = side.masters();
    simt::set_schedule(simt::Schedule::eager);
    return masters;
  };
  for (const bool graph : {false, true}) {
    const Tensor eager = train(simt::Schedule::eager, 0, graph);
    EXPECT_TRUE(testing::same_bits(train(simt::Schedule::lazy, 0, graph), eager));
    for (uint64_t seed = 1; seed <= 3; ++seed)
      EXPECT_TRUE(testing::same_bits(train(simt::Schedule::random, seed, graph), eager)) << seed;
  }
}

// Nothing inside a step waits: with lazy streams all of it is still queued when run() returns.
TEST_F(CudaTrainStep, NeedsNoAnswerFromTheHost) {
  Side side(kCases[4], Device::cuda);
  side.step.run(batch(0), 0);
  side.step.read();
  const GlobalStep samples = batch(1);
  gemm_cuda_time_new_forms(false);  // as the trainer does after its rehearsal
  simt::set_schedule(simt::Schedule::lazy);
  const size_t before = simt::pending_operations();
  side.step.run(samples, 1);
  EXPECT_GT(simt::pending_operations(), before + 100);
  EXPECT_EQ(side.step.read().applied_steps, 2);
  EXPECT_EQ(simt::pending_operations(), 0u);
  simt::set_schedule(simt::Schedule::eager);
  gemm_cuda_time_new_forms(true);
}

// Every kernel that a step launches is one of the chapters', or a product of cuBLASLt.
TEST_F(CudaTrainStep, LaunchesTheChaptersKernelsAlone) {
  Side side(kCases[4], Device::cuda);
  simt::clear_launches();
  side.step.run(batch(0), 0);
  side.step.read();
  std::string chapters;
  const fs::path folder = fs::path(std::getenv("MINIBERT_SOURCE_DIR")) / "core/kernels";
  for (const auto& file : fs::directory_iterator(folder))
    chapters += testing::read_bytes(file.path());
  std::map<std::string, int> launched;
  for (const simt::LaunchRecord& record : simt::launches()) ++launched[record.name];
  for (const auto& [name, count] : launched) {
    fmt::print("{:5} {}\n", count, name);
    const std::string kernel = name.substr(0, name.find('<'));
    EXPECT_TRUE(chapters.find(" " + kernel + "(") != std::string::npos ||
                kernel == "cublasLtMatmul")
        << name;
  }
  EXPECT_GT(launched.size(), 10u);
}
#endif

}  // namespace
}  // namespace minibert
