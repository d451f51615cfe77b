// gemm_choice_cublaslt.cpp: gemm_cuda: each product by our own kernels or by cuBLASLt. At the first
// product of a form (classes of sizes, types, transposes, epilogue) both are timed on this device, into memory
// that nobody reads, and the winner is kept in a table that can be printed, saved and loaded. Called by
// gemm.cpp's dispatch. Easy to break: nothing can be timed while a stream is captured into a graph, so
// there a form that is not in the table takes our own kernels, and is not entered.
// Test: ctest -R gemm_cuda.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <vector>

#include <cuda_runtime_api.h>

#include "core/cuda_error.h"
#include "core/kernels/gemm_cuda.h"

namespace minibert {
namespace {

using Epilogue = GemmArgs::Epilogue;

constexpr int kOurs = -1;

/// Who multiplies a form: kOurs, or the number of cuBLASLt's algorithm; and what both took.
struct Choice {
  int algorithm = kOurs;
  double our_microseconds = 0, library_microseconds = 0;  // 0: can't do it
};

struct Table {
  std::mutex mutex;
  std::map<std::string, Choice> choices;
  GemmCudaBackend backend = GemmCudaBackend::fastest;
};

GemmCudaBackend backend_of(const std::string& name) {
  if (name == "ours") return GemmCudaBackend::ours;
  if (name == "cublaslt") return GemmCudaBackend::cublaslt;
  MB_CHECK(name == "fastest", "MINIBERT_CUDA_GEMM is {}, expected fastest, ours or cublaslt", name);
  return GemmCudaBackend::fastest;
}

Table& table() {
  static auto* made = [] {
    auto* first = new Table;  // never destroyed: products may be queued while the process ends
    if (const char* name = std::getenv("MINIBERT_CUDA_GEMM")) first->backend = backend_of(name);
    return first;
  }();
  return *made;
}

/// Rounded up to a quarter of the power of two below: batches of varying tokens share a few forms, so
/// that a step seldom has to wait for a timing.
int64_t size_class(int64_t n) {
  if (n <= 64) return n;
  const auto step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n - 1)) / 4);
  return (n + step - 1) / step * step;
}

/// "bf16 4096x1024x1024 nt bias": all that decides which kernels can run, and about how long they take.
std::string form_of(const GemmArgs& args) {
  const auto [M, N, K] = gemm_sizes(args);
  const bool tf32 = args.tf32 && args.a.dtype() == DType::f32;
  std::string form = fmt::format("{} {}x{}x{} {}{}", tf32 ? "tf32" : name_of(args.a.dtype()),
                                 size_class(M), size_class(N), size_class(K),
                                 args.transpose_a ? 't' : 'n', args.transpose_b ? 't' : 'n');
  form += ' ';
  const size_t bare = form.size();
  const auto word = [&](bool is, const char* name) {
    if (is) form += (form.size() > bare ? "+" : "") + std::string(name);
  };
  word(args.bias.defined(), "bias");
  word(args.accumulate, "accumulate");
  word(args.epilogue == Epilogue::bias_gelu, "gelu");
  word(args.epilogue == Epilogue::dgelu, "dgelu");
  word(args.epilogue != Epilogue::none && args.gelu == Gelu::tanh, "tanh");
  word(args.epilogue == Epilogue::bias_gelu && args.pre_activation.defined(), "pre");
  word(args.column_sum.defined(), args.accumulate_column_sum ? "add_sums" : "sums");
  word(args.c.dtype() != args.a.dtype(), "f32");
  if (form.size() == bare) form += "plain";
  return form;
}

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  MB_CUDA(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.handle), &status));
  return status != cudaStreamCaptureStatusNone;
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
  const std::string form = form_of(args);
  {
    const std::lock_guard lock(t.mutex);
    if (const auto found = t.choices.find(form); found != t.choices.end())
      return found->second.algorithm;
  }
  if (is_capturing(stream)) return kOurs;
  const Choice choice = measure(args, stream);
  const std::lock_guard lock(t.mutex);
  return t.choices.emplace(form, choice).first->second.algorithm;
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
  const auto [M, N, K] = gemm_sizes(args);
  const GemmCudaBackend backend = gemm_cuda_backend();
  if (backend == GemmCudaBackend::ours || M == 0 || N == 0 || K == 0)
    return gemm_cuda_ours(args, stream);
  int algorithm = backend == GemmCudaBackend::fastest ? choose(args, stream) : 0;
  // A loaded table may be of another version of the library, or of another alignment.
  if (algorithm != kOurs && algorithm >= gemm_cublaslt_algorithms(args)) algorithm = kOurs;
  algorithm == kOurs ? gemm_cuda_ours(args, stream) : gemm_cublaslt(args, stream, algorithm);
}

void gemm_cuda_use(GemmCudaBackend backend) {
  const std::lock_guard lock(table().mutex);
  table().backend = backend;
}

GemmCudaBackend gemm_cuda_backend() {
  const std::lock_guard lock(table().mutex);
  return table().backend;
}

std::string gemm_cuda_implementation() {
  const GemmCudaBackend backend = gemm_cuda_backend();
  if (backend == GemmCudaBackend::ours) return "built-in";
  const std::string both = gemm_cublaslt_description() + ", built-in";
  return backend == GemmCudaBackend::cublaslt ? both : "the faster of " + both;
}

std::string gemm_cuda_choices() {
  const std::lock_guard lock(table().mutex);
  std::string text;
  for (const auto& [form, c] : table().choices) {
    const std::string who = c.algorithm == kOurs ? "ours" : fmt::format("cublaslt:{}", c.algorithm);
    text += fmt::format("{} {:.1f}us {:.1f}us {}\n", form, c.our_microseconds,
                        c.library_microseconds, who);
  }
  return text;
}

void gemm_cuda_load_choices(const std::string& text) {
  std::map<std::string, Choice> choices;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::string type, sizes, transposes, epilogue, unit_ours, unit_library, who, more;
    Choice c;
    const bool good = (words >> type >> sizes >> transposes >> epilogue >> c.our_microseconds >>
                       unit_ours >> c.library_microseconds >> unit_library >> who) &&
                      !(words >> more) && unit_ours == "us" && unit_library == "us" &&
                      parse_who(who, c.algorithm);
    MB_CHECK_AS(
        DataError, good,
        "gemm choices: line {} is \"{}\", expected as in \"bf16 4096x1024x1024 nt bias 81.0us "
        "78.5us cublaslt:0\"",
        number, line);
    choices[fmt::format("{} {} {} {}", type, sizes, transposes, epilogue)] = c;
  }
  const std::lock_guard lock(table().mutex);
  table().choices = std::move(choices);
}

}  // namespace minibert
