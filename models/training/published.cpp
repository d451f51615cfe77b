// published.cpp: the figures. The LAMB paper's F1 are those of its later table of untuned runs.
#include "models/training/published.h"

#include <algorithm>
#include <array>

namespace minibert {
namespace {

constexpr const char* kLambPaper = "arXiv 1904.00962, tables of BERT-large";

constexpr PublishedRun lamb(const char* recipe, const char* batch, int64_t steps, double rate,
                            double warmup, int chips, double hours, const char* f1) {
  return {.recipe = recipe,
          .steps = steps,
          .batch = batch,
          .learning_rate = rate,
          .warmup = warmup,
          .rate_from_memory = rate > 0,
          .devices = chips,
          .device = "TPUv3",
          .hours = hours,
          .result = f1,
          .source = kLambPaper};
}

constexpr std::array kRuns = {
    lamb("bert-large-lamb-512", "512", 1000000, 6.25e-4, 1 / 320.0, 16, 82.8, "SQuAD F1 91.752"),
    lamb("bert-large-lamb-1k", "1k", 500000, 8.84e-4, 1 / 160.0, 32, 43.2, "SQuAD F1 91.761"),
    lamb("bert-large-lamb-2k", "2k", 250000, 1.25e-3, 1 / 80.0, 64, 21.4, "SQuAD F1 91.946"),
    lamb("bert-large-lamb-4k", "4k", 125000, 1.77e-3, 1 / 40.0, 128, 693.6 / 60, "SQuAD F1 91.137"),
    lamb("bert-large-lamb-8k", "8k", 62500, 2.5e-3, 1 / 20.0, 256, 390.5 / 60, "SQuAD F1 91.263"),
    lamb("bert-large-lamb-16k", "16k", 31250, 3.54e-3, 1 / 10.0, 512, 200.0 / 60,
         "SQuAD F1 91.345"),
    lamb("bert-large-lamb-32k", "32k", 15625, 5e-3, 1 / 5.0, 1024, 101.2 / 60, "SQuAD F1 91.475"),
    lamb("bert-large-lamb-64k", "64k/32k", 8599, 0, 0, 1024, 76.19 / 60, "SQuAD F1 90.584"),
    PublishedRun{.recipe = "bert-large-nvidia",
                 .steps = 8601,
                 .batch = "64k/32k",
                 .learning_rate = 6e-3,
                 .warmup = 0.2843,
                 .devices = 256,
                 .device = "A100 80GB",
                 .hours = 1.2,
                 .result = "SQuAD F1 90.68 +/- .16 over 10 seeds; loss 1.2437",
                 .source = "NVIDIA/DeepLearningExamples, PyTorch/LanguageModeling/BERT, README"},
    PublishedRun{.recipe = "bert-large-mlperf",
                 .steps = 600,
                 .batch = "8k",
                 .learning_rate = 2.88293e-3,
                 .warmup = 211 / 600.0,
                 .result = "masked-token accuracy of .720, the benchmark's target",
                 .source = "mlcommons/training, retired_benchmarks/bert"},
    PublishedRun{.recipe = "bert-base-google",
                 .steps = 1000000,
                 .batch = "256",
                 .learning_rate = 1e-4,
                 .warmup = 0.01,
                 .rate_from_memory = false,
                 .devices = 16,
                 .device = "TPU chips",
                 .hours = 96,
                 .result = "SQuAD F1 88.41",
                 .source =
                     "google-research/bert, README; steps, batch, chips and hours from memory, "
                     "not found in a source"},
};

}  // namespace

std::span<const PublishedRun> published_runs() {
  return kRuns;
}

const PublishedRun* published_run(std::string_view recipe) {
  const auto found =
      std::ranges::find_if(kRuns, [&](const PublishedRun& run) { return recipe == run.recipe; });
  return found == kRuns.end() ? nullptr : &*found;
}

}  // namespace minibert
