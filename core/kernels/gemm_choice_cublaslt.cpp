// gemm_choice_cublaslt.cpp: gemm_cuda: each product by our own kernels or by cuBLASLt. At the first
// product of a form (classes of sizes, types, transposes, epilogue) both are timed on this device,
// into memory that nobody reads, and the winner is kept in a table that can be printed, saved and
// loaded. Called by gemm.cpp's dispatch. Easy to break: nothing can be timed while a stream is
// captured into a graph, nor where nobody may wait for the device; there a form that is not in the
// table follows its nearest relation, and is not entered. Test: ctest -R gemm_cuda.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <map>
#include <mutex>
#include <sstream>
#include <vector>

#include <cuda_runtime_api.h>

#include "core/cuda_error.h"
#include "core/device_marks.h"
#include "core/kernels/gemm_cuda.h"
#include "core/kernels/gemm_cuda_table.h"

namespace minibert {
namespace {

using Epilogue = GemmArgs::Epilogue;

constexpr int kOurs = -1;

/// "bf16 4096x1024x1024 nt bias": all that decides which kernels can run, and about how long they take.
struct Form {
  std::string type, operands;  // "bf16", "nt bias"
  std::array<int64_t, 3> sizes;
  auto operator<=>(const Form&) const = default;
  std::string text() const {
    return fmt::format("{} {} {}", type, fmt::join(sizes, "x"), operands);
  }
};

/// Who multiplies a form: kOurs, or the number of cuBLASLt's algorithm; and what both took.
struct Choice {
  int algorithm = kOurs;
  double our_microseconds = 0, library_microseconds = 0;  // 0: can't do it
};

struct Table {
  std::mutex mutex;
  std::map<Form, Choice> choices;
  GemmCudaBackend backend = GemmCudaBackend::fastest;
  bool times_new_forms = true;
};

Table& table() {
  static auto* made = new Table;  // never destroyed: products may be queued while the process ends
  return *made;
}

/// Rounded up to a quarter of the power of two below: batches of varying tokens share a few forms, so
/// that a step seldom has to wait for a timing.
int64_t size_class(int64_t n) {
  if (n <= 64) return n;
  const auto step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n - 1)) / 4);
  return (n + step - 1) / step * step;
}

Form form_of(const GemmArgs& args) {
  const auto [M, N, K] = gemm_sizes(args);
  const bool tf32 = args.tf32 && args.a.dtype() == DType::f32;
  std::string operands =
      fmt::format("{}{} ", args.transpose_a ? 't' : 'n', args.transpose_b ? 't' : 'n');
  const size_t bare = operands.size();
  const auto word = [&](bool is, const char* name) {
    if (is) operands += (operands.size() > bare ? "+" : "") + std::string(name);
  };
  word(args.bias.defined(), "bias");
  word(args.accumulate, "accumulate");
  word(args.epilogue == Epilogue::bias_gelu, "gelu");
  word(args.epilogue == Epilogue::dgelu, "dgelu");
  word(args.epilogue != Epilogue::none && args.gelu == Gelu::tanh, "tanh");
  word(args.epilogue == Epilogue::bias_gelu && args.pre_activation.defined(), "pre");
  word(args.column_sum.defined(), args.accumulate_column_sum ? "add_sums" : "sums");
  word(args.epilogue == Epilogue::residual,
       args.dropout.active() ? "dropout+residual" : "residual");
  word(args.row_sum.defined(), args.accumulate_row_sum ? "add_row_sums" : "row_sums");
  word(args.c.dtype() != args.a.dtype(), "f32");
  if (operands.size() == bare) operands += "plain";
  return {tf32 ? "tf32" : name_of(args.a.dtype()),
          operands,
          {size_class(M), size_class(N), size_class(K)}};
}

/// The choice of the form that is nearest in size and alike in all else; ours if none is alike.
int nearest_choice(const std::map<Form, Choice>& choices, const Form& form) {
  int algorithm = kOurs;
  double least = INFINITY;
  for (const auto& [known, choice] : choices) {
    if (known.type != form.type || known.operands != form.operands) continue;
    double distance = 0;
    for (size_t i = 0; i < form.sizes.size(); ++i)
      distance += std::abs(
          std::log2(static_cast<double>(known.sizes[i]) / static_cast<double>(form.sizes[i])));
    if (distance < least) least = distance, algorithm = choice.algorithm;
  }
  return algorithm;
}

class Event {
 public:
  Event() { MB_CUDA(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(Stream stream) {
    MB_CUDA(cudaEventRecord(event_, static_cast<cudaStream_t>(stream.handle)));
  }
  /// Microseconds from an event to this one, when both have passed.
  double since(const Event& earlier) {
    MB_CUDA(cudaEventSynchronize(event_));
    float milliseconds = 0;
    MB_CUDA(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// The call with all that it writes turned to memory of its own, so that it may run many times.
class Rehearsal {
 public:
  Rehearsal(const GemmArgs& args, Stream stream) : args_(args) {
    redirect(args_.c, stream);
    redirect(args_.column_sum, stream);
    redirect(args_.row_sum, stream);
    if (args.epilogue == Epilogue::bias_gelu) redirect(args_.pre_activation, stream);
  }
  /// Least microseconds of a few runs, after one that is not counted.
  template <typename Run>
  double least_time(Stream stream, const Run& run) const {
    constexpr int kRuns = 5;
    run(args_);
    double least = 0;
    for (int i = 0; i < kRuns; ++i) {
      Event before, after;
      before.record(stream);
      run(args_);
      after.record(stream);
      const double time = after.since(before);
      least = i == 0 ? time : std::min(least, time);
    }
    return least;
  }

 private:
  void redirect(Operand& x, Stream stream) {
    if (!x.defined()) return;
    scratch_.emplace_back(std::max<int64_t>(x.bytes(), 1));
    x.pointer = scratch_.back().data<void>();
    // Some calls add to what is there; whatever it is, it must have been written.
    MB_CUDA(cudaMemsetAsync(x.pointer, 0, static_cast<size_t>(x.bytes()),
                            static_cast<cudaStream_t>(stream.handle)));
  }
  GemmArgs args_;
  std::vector<DeviceWorkspace> scratch_;
};

Choice measure(const GemmArgs& args, Stream stream) {
  Choice choice;
  const int algorithms = gemm_cublaslt_algorithms(args);
  if (algorithms == 0) return choice;  // nothing to choose
  const Rehearsal rehearsal(args, stream);
  choice.our_microseconds =
      rehearsal.least_time(stream, [&](const GemmArgs& run) { gemm_cuda_ours(run, stream); });
  int fastest = 0;
  for (int i = 0; i < algorithms; ++i) {
    const double time =
        rehearsal.least_time(stream, [&](const GemmArgs& run) { gemm_cublaslt(run, stream, i); });
    if (i == 0 || time < choice.library_microseconds)
      choice.library_microseconds = time, fastest = i;
  }
  choice.algorithm = choice.our_microseconds <= choice.library_microseconds ? kOurs : fastest;
  return choice;
}

/// The choice for a call under `fastest`.
int choose(const GemmArgs& args, Stream stream) {
  Table& t = table();
  const Form form = form_of(args);
  {
    const std::lock_guard lock(t.mutex);
    if (const auto found = t.choices.find(form); found != t.choices.end())
      return found->second.algorithm;
    if (!t.times_new_forms || cuda_capturing(stream)) return nearest_choice(t.choices, form);
  }
  Choice choice;
  try {
    choice = measure(args, stream);
  } catch (const OutOfMemory&) {  // no room to rehearse: ours needs the least
  }
  const std::lock_guard lock(t.mutex);
  return t.choices.emplace(form, choice).first->second.algorithm;
}

/// Who multiplies this call.
int algorithm_of(const GemmArgs& args, Stream stream) {
  const auto [M, N, K] = gemm_sizes(args);
  const GemmCudaBackend backend = gemm_cuda_backend();
  if (backend == GemmCudaBackend::ours || M == 0 || N == 0 || K == 0) return kOurs;
  const int algorithm = backend == GemmCudaBackend::fastest ? choose(args, stream) : 0;
  if (algorithm == kOurs) return kOurs;
  // A loaded table may be of another version of the library, or of another alignment.
  return algorithm < gemm_cublaslt_algorithms(args) ? algorithm : kOurs;
}

/// "cublaslt" or "cublaslt:2" to 0 or 2, "ours" to kOurs; nothing else is taken.
bool parse_who(const std::string& word, int& algorithm) {
  const std::string library = "cublaslt:";
  if (word == "ours") return algorithm = kOurs, true;
  if (word.rfind(library, 0) != 0) return false;
  const char *begin = word.data() + library.size(), *end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(begin, end, algorithm);
  return error == std::errc() && stop == end && algorithm >= 0;
}

}  // namespace

void gemm_cuda(const GemmArgs& args, Stream stream) {
  const int algorithm = algorithm_of(args, stream);
  algorithm == kOurs ? gemm_cuda_ours(args, stream) : gemm_cublaslt(args, stream, algorithm);
}

bool gemm_cuda_fuses(const GemmArgs& args, Stream stream) {
  return algorithm_of(args, stream) == kOurs;
}

void gemm_cuda_use(GemmCudaBackend backend) {
  const std::lock_guard lock(table().mutex);
  table().backend = backend;
}

GemmCudaBackend gemm_cuda_backend() {
  const std::lock_guard lock(table().mutex);
  return table().backend;
}

void gemm_cuda_time_new_forms(bool on) {
  const std::lock_guard lock(table().mutex);
  table().times_new_forms = on;
}

std::string gemm_cuda_implementation() {
  return gemm_cuda_implementation(gemm_cuda_backend());
}

std::string gemm_cuda_implementation(GemmCudaBackend backend) {
  if (backend == GemmCudaBackend::ours) return "built-in";
  const std::string both = gemm_cublaslt_description() + ", built-in";
  return backend == GemmCudaBackend::cublaslt ? both : "the faster of " + both;
}

std::string gemm_cuda_choices() {
  const std::lock_guard lock(table().mutex);
  std::string text;
  for (const auto& [form, c] : table().choices) {
    const std::string who = c.algorithm == kOurs ? "ours" : fmt::format("cublaslt:{}", c.algorithm);
    text += fmt::format("{} {:.1f}us {:.1f}us {}\n", form.text(), c.our_microseconds,
                        c.library_microseconds, who);
  }
  return text;
}

GemmCudaChoiceCount gemm_cuda_choice_count() {
  const std::lock_guard lock(table().mutex);
  GemmCudaChoiceCount count;
  for (const auto& [form, choice] : table().choices)
    ++(choice.algorithm == kOurs ? count.ours : count.cublaslt);
  return count;
}

void gemm_cuda_load_choices(const std::string& text) {
  std::map<Form, Choice> choices;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::string transposes, epilogue, unit_ours, unit_library, who, more;
    Form form;
    Choice c;
    char by_1 = 0, by_2 = 0;
    auto& [M, N, K] = form.sizes;
    const bool good =
        (words >> form.type >> M >> by_1 >> N >> by_2 >> K >> transposes >> epilogue >>
         c.our_microseconds >> unit_ours >> c.library_microseconds >> unit_library >> who) &&
        !(words >> more) && by_1 == 'x' && by_2 == 'x' && std::min({M, N, K}) > 0 &&
        unit_ours == "us" && unit_library == "us" && parse_who(who, c.algorithm);
    MB_CHECK_AS(
        DataError, good,
        "gemm choices: line {} is \"{}\", expected as in \"bf16 4096x1024x1024 nt bias 81.0us "
        "78.5us cublaslt:0\"",
        number, line);
    form.operands = transposes + " " + epilogue;
    choices[form] = c;
  }
  const std::lock_guard lock(table().mutex);
  table().choices = std::move(choices);
}

}  // namespace minibert
