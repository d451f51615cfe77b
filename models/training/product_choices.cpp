// product_choices.cpp: a file, or a rehearsal.
#include "models/training/product_choices.h"

#include "core/device.h"
#include "core/device_marks.h"
#include "core/error.h"
#include "models/training/agreement.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

/// "32 x 128 (4096 tokens) ", of each phase.
std::string micro_batches(const TrainConfig& config, const RunInputs& inputs) {
  std::string text;
  const std::vector<Phase> phases = phases_of(config);
  for (size_t i = 0; i < phases.size(); ++i) {
    const TrainConfig& c = phases[i].config;
    text += fmt::format("{}{} x {} {}", i > 0 ? "and " : "", c.micro_batch_size,
                        inputs.phases[i].sequence_length,
                        c.token_capacity > 0 ? fmt::format("({} tokens) ", c.token_capacity) : "");
  }
  return text;
}

/// What the choices hold for: the first line of the file.
std::string heading(const TrainConfig& config, const RunInputs& inputs) {
  const BertConfig& model = inputs.model;
  return fmt::format(
      "# {} on {}; {}, {} x {}, {} heads, feed-forward {}, vocabulary {}, micro-batches of {}{}",
      gemm_cuda_implementation(), cuda_device().name, config.precision, model.num_hidden_layers,
      model.hidden_size, model.num_attention_heads, model.intermediate_size, model.vocab_size,
      micro_batches(config, inputs), config.fixed_shapes ? "padded" : "packed");
}

/// The run's own file; before it that of the run whose checkpoint --resume names.
std::vector<fs::path> places(const TrainConfig& config, const fs::path& file) {
  std::vector<fs::path> paths;
  const bool named = config.resume != "never" && config.resume != "auto" && config.resume != "must";
  if (named) {
    const fs::path checkpoint = fs::weakly_canonical(config.resume);
    paths = {checkpoint / file.filename(), checkpoint.parent_path() / file.filename()};
  }
  paths.push_back(file);
  return paths;
}

/// Loads the first file that there is. Whether its choices are for this heading, and so were taken.
bool load(const std::vector<fs::path>& paths, const std::string& heading,
          std::vector<std::string>& lines) {
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) continue;
    const std::string text = read_text(path);
    const size_t end = text.find('\n');
    if (text.substr(0, end) != heading) {
      lines.push_back(fmt::format(
          "{}: was made for \"{}\": the products are timed anew, and the run's bits may differ",
          path.string(), text.substr(0, std::min<size_t>(end, 200))));
      return false;
    }
    try {
      gemm_cuda_load_choices(end == std::string::npos ? "" : text.substr(end + 1));
    } catch (const DataError& error) {
      fail<DataError>("{}: {}. Remove the file: the products are timed anew.", path.string(),
                      error.what());
    }
    return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> choose_products(const TrainConfig& config, const RunInputs& inputs,
                                         const fs::path& file, FileSystem& files,
                                         const std::function<void()>& rehearse) {
  std::vector<std::string> lines;
  if (parse_device(config.device) != Device::cuda) return lines;
  const GemmCudaBackend backend = gemm_backend(config);
  gemm_cuda_use(backend);
  if (backend != GemmCudaBackend::fastest) return lines;
  const std::string first_line = heading(config, inputs);
  const bool known = load(places(config, file), first_line, lines);
  if (!known) {
    gemm_cuda_load_choices("");
    gemm_cuda_time_new_forms(true);
    rehearse();
  }
  gemm_cuda_time_new_forms(false);
  files.replace_text(file, first_line + "\n" + gemm_cuda_choices());
  const GemmCudaChoiceCount count = gemm_cuda_choice_count();
  lines.push_back(fmt::format("products: {} forms {}: {} ours, {} cuBLASLt's ({})",
                              count.ours + count.cublaslt, known ? "from before" : "timed",
                              count.ours, count.cublaslt, file.string()));
  return lines;
}

void share_products(const TrainConfig& config, ProcessGroup& ranks) {
  if (ranks.world() == 1 || parse_device(config.device) != Device::cuda) return;
  std::string choices = ranks.rank() == 0 ? gemm_cuda_choices() : "";
  share_text(ranks, choices);
  if (ranks.rank() == 0) return;
  gemm_cuda_use(gemm_backend(config));
  gemm_cuda_time_new_forms(false);
  gemm_cuda_load_choices(choices);
}

}  // namespace minibert
