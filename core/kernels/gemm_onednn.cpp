// gemm_onednn.cpp: plain matrix multiplication by oneDNN: f32 by its sgemm, bf16 by its matmul
// primitive. Called by gemm.cpp. sgemm copies panels of both matrices into blocks by itself, so that
// a leading dimension of 3,072 does less harm (how much is left: onednn_is_faster in gemm.cpp). The
// primitive was tried for f32, too, on the shapes of BERT-base: with row-major operands it is the
// slower one; with weights reordered into its own layout it is sometimes the faster one, but
// reordering them at each call costs more than that saves. Speed: minibert bench gemm.
// The product is cut into tiles by its shape alone, one thread each: so the thread count does not
// change bits, and small products, where oneDNN's own threads gain little, scale too.
#include <algorithm>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include <oneapi/dnnl/dnnl.hpp>

#include "core/error.h"
#include "core/kernels/gemm_backend.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace minibert {
namespace {

const char* name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "other instruction set";
  }
}

/// Size of the tiles of c. Large enough that packing panels costs little, small enough for 8 tasks.
/// Square ones pack least: in bf16 a step of BERT-base was 2 % faster with them than with 256 x 1024.
struct Tile {
  int64_t rows = 512, columns = 512;
};

int64_t parts(int64_t size, int64_t tile) {
  return (size + tile - 1) / tile;
}

Tile tile_of(const GemmProblem& p) {
  constexpr int64_t kTasks = 8, kSmallest = 64;
  Tile tile;
  while (parts(p.M, tile.rows) * parts(p.N, tile.columns) < kTasks) {
    int64_t& larger =
        std::min(tile.rows, p.M) >= std::min(tile.columns, p.N) ? tile.rows : tile.columns;
    if (larger <= kSmallest) break;
    larger /= 2;
  }
  return tile;
}

// body(part) for each tile of the product, whose place and size it has, but no memory yet.
template <typename Body>
void for_tiles(const GemmProblem& p, const Body& body) {
  const Tile tile = tile_of(p);
  const int64_t down = parts(p.M, tile.rows), across = parts(p.N, tile.columns);
  parallel_blocks(down * across, [&](int64_t task) {
    const int64_t row = task / across * tile.rows, column = task % across * tile.columns;
    body(GemmPart{nullptr, 0, row, std::min(tile.rows, p.M - row), column,
                  std::min(tile.columns, p.N - column)});
  });
}

// ---- f32: sgemm --------------------------------------------------------------------------------
void multiply_by_sgemm(const GemmProblem& p, const GemmPart& part) {
  const float* a = static_cast<const float*>(p.a) + (p.transpose_a ? part.row : part.row * p.K);
  const float* b =
      static_cast<const float*>(p.b) + (p.transpose_b ? part.column * p.K : part.column);
  const dnnl_status_t status =
      dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', part.rows, part.columns, p.K,
                 /* alpha= */ 1.0f, a, p.transpose_a ? p.M : p.K, b, p.transpose_b ? p.K : p.N,
                 p.accumulate ? 1.0f : 0.0f, part.product, part.stride);
  MB_ASSERT(status == dnnl_success, "gemm: oneDNN answers {} for [{}, {}] = [{}, {}] x [{}, {}]",
            static_cast<int>(status), part.rows, part.columns, part.rows, p.K, p.K, part.columns);
}

// ---- 16-bit types: the matmul primitive --------------------------------------------------------
using dnnl::memory;

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type type_of(DType type) {
  return type == DType::f32    ? memory::data_type::f32
         : type == DType::bf16 ? memory::data_type::bf16
                               : memory::data_type::f16;
}

/// What a primitive is made for: op(a) [rows, K], op(b) [K, columns], the product in f32, and how
/// far apart their stored rows lie.
struct MatmulShape {
  int64_t rows, columns, K, a_stride, b_stride, c_stride;
  bool transpose_a, transpose_b, accumulate;
  DType type;
  auto operator<=>(const MatmulShape&) const = default;
};

/// A primitive, shared by threads: it keeps nothing between calls, scratch is the caller's.
class Matmul {
 public:
  explicit Matmul(const MatmulShape& s)
      : a_(matrix(s.rows, s.K, s.a_stride, s.transpose_a, type_of(s.type))),
        b_(matrix(s.K, s.columns, s.b_stride, s.transpose_b, type_of(s.type))),
        c_(matrix(s.rows, s.columns, s.c_stride, false, memory::data_type::f32)) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (s.accumulate) {
      dnnl::post_ops add;
      add.append_sum(1.0f);
      attributes.set_post_ops(add);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc chosen(cpu_engine(), a_, b_, c_, attributes);
#else
    const dnnl::matmul::primitive_desc chosen({a_, b_, c_}, attributes, cpu_engine());
#endif
    scratch_ = chosen.scratchpad_desc();
    primitive_ = dnnl::matmul(chosen);
  }
  size_t scratch_bytes() const {
    return scratch_.get_size();
  }
  void run(const void* a, const void* b, float* c, void* scratch) const {
    thread_local dnnl::stream stream(cpu_engine());
    const auto at = [](const memory::desc& desc, const void* data) {
      return memory(desc, cpu_engine(), const_cast<void*>(data));
    };
    primitive_.execute(stream, {{DNNL_ARG_SRC, at(a_, a)},
                                {DNNL_ARG_WEIGHTS, at(b_, b)},
                                {DNNL_ARG_DST, at(c_, c)},
                                {DNNL_ARG_SCRATCHPAD, at(scratch_, scratch)}});
    stream.wait();
  }

 private:
  // `stride` lies between stored rows.
  static memory::desc matrix(int64_t rows, int64_t columns, int64_t stride, bool transposed,
                             memory::data_type type) {
    const memory::dims strides = transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
    return {{rows, columns}, type, strides};
  }
  memory::desc a_, b_, c_, scratch_;
  dnnl::matmul primitive_;
};

/// The primitive for this shape, made at the first call; null if oneDNN has none.
std::shared_ptr<const Matmul> matmul_for(const MatmulShape& shape) {
  constexpr size_t kMost = 512;  // shapes that depend on the number of tokens could be endless
  static std::mutex mutex;
  static std::map<MatmulShape, std::shared_ptr<const Matmul>> made;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = made.find(shape);
  if (found != made.end()) return found->second;
  if (made.size() >= kMost) made.clear();
  std::shared_ptr<const Matmul> matmul;
  try {
    matmul = std::make_shared<const Matmul>(shape);
  } catch (const dnnl::error&) {
  }
  return made[shape] = matmul;
}

MatmulShape shape_of(const GemmProblem& p, const GemmPart& part) {
  return {part.rows,
          part.columns,
          p.K,
          p.transpose_a ? p.M : p.K,
          p.transpose_b ? p.K : p.N,
          p.c ? p.N : part.columns,
          p.transpose_a,
          p.transpose_b,
          p.accumulate,
          p.type};
}

constexpr size_t kLine = 64;

// Bytes of a part's product in a thread's scratch; none where it goes to c.
size_t product_bytes_of(const GemmProblem& p, const GemmPart& part) {
  return p.c ? 0 : (static_cast<size_t>(part.rows * part.columns) * 4 + kLine - 1) / kLine * kLine;
}

// The part's product goes to c, or else to this thread's scratch, followed by the primitive's own.
void multiply_by_primitive(const GemmProblem& p, GemmPart part, const Matmul& matmul) {
  const auto element = static_cast<int64_t>(size_of(p.type));
  const int64_t a_first = p.transpose_a ? part.row : part.row * p.K;
  const int64_t b_first = p.transpose_b ? part.column * p.K : part.column;
  const size_t product_bytes = product_bytes_of(p, part);
  auto* scratch =
      static_cast<std::byte*>(thread_scratch(product_bytes + matmul.scratch_bytes() + kLine));
  part.stride = p.c ? p.N : part.columns;
  part.product = p.c ? p.c + part.row * p.N + part.column : reinterpret_cast<float*>(scratch);
  matmul.run(static_cast<const std::byte*>(p.a) + a_first * element,
             static_cast<const std::byte*>(p.b) + b_first * element, part.product,
             scratch + product_bytes);
  if (p.finish) p.finish(part);
}

}  // namespace

bool gemm_onednn_available() {
  return true;
}

bool gemm_onednn_multiplies(DType type) {
  if (type != DType::bf16) return type == DType::f32;
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto needs = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (has & needs) == needs;  // an instruction set's bits contain those of its predecessors
}

namespace {
// Most bytes of thread scratch that a part takes; nothing if oneDNN has no kernel for the product.
std::optional<size_t> primitive_scratch(const GemmProblem& p) {
  const Tile tile = tile_of(p);
  size_t most = 0;
  for (int64_t rows : {std::min(tile.rows, p.M), (p.M - 1) % tile.rows + 1}) {
    for (int64_t columns : {std::min(tile.columns, p.N), (p.N - 1) % tile.columns + 1}) {
      const GemmPart part{nullptr, 0, 0, rows, 0, columns};
      const auto matmul = matmul_for(shape_of(p, part));
      if (!matmul) return std::nullopt;
      most = std::max(most, product_bytes_of(p, part) + matmul->scratch_bytes() + kLine);
    }
  }
  return most;
}
}  // namespace

KernelMemory gemm_onednn_memory(const GemmProblem& p) {
  if (p.type == DType::f32) {
    const Tile tile = tile_of(p);
    return p.M <= tile.rows && p.N <= tile.columns ? gemm_builtin_memory(p) : KernelMemory{};
  }
  std::optional<size_t> scratch;
  with_one_library_thread([&] { scratch = primitive_scratch(p); });
  if (!scratch) return gemm_builtin_memory(p);
  return {.thread_scratch = static_cast<int64_t>(*scratch)};
}

bool gemm_onednn_primitive(const GemmProblem& p) {
  bool all = true;
  // A primitive is planned for OpenMP's number of threads; each of ours runs on one.
  with_one_library_thread([&] {
    all = primitive_scratch(p).has_value();
    if (!all) return;
    for_tiles(p, [&](const GemmPart& part) {
      multiply_by_primitive(p, part, *matmul_for(shape_of(p, part)));
    });
  });
  return all;
}

void gemm_onednn(const GemmProblem& p) {
  if (p.type != DType::f32) {
    if (!gemm_onednn_primitive(p)) gemm_builtin(p);
    return;
  }
  const Tile tile = tile_of(p);
  // One task would run outside parallel_blocks' threads, on oneDNN's own, which may split K.
  if (p.M <= tile.rows && p.N <= tile.columns) return gemm_builtin(p);
  for_tiles(p, [&](GemmPart part) {
    part.product = p.c + part.row * p.N + part.column;
    part.stride = p.N;
    multiply_by_sgemm(p, part);
  });
}

std::string gemm_onednn_description() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} ({})", version->major, version->minor, version->patch,
                     name_of(dnnl::get_effective_cpu_isa()));
}

}  // namespace minibert
