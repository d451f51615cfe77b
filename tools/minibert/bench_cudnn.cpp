// bench_cudnn.cpp: attention and LayerNorm as graphs of cuDNN 9. LayerNorm's passes and attention's
// forward pass are one operation each. Attention's backward pass has to be spelled out: cuDNN fuses
// the graph that it recognises, operation by operation, and refuses others, so neither order nor
// strides are free. Called by bench.cpp. Easy to break: the statistics and the two buffers of
// attention's backward pass must be dense, whatever the strides of the other tensors are.
// Sources: NVIDIA's cuDNN documentation (Graph API) and cudnn_graph.h; arXiv 2307.08691.
#include "tools/minibert/bench_cudnn.h"

#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <memory>
#include <utility>

#include <cudnn_graph.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/kernels/copy.h"
#include "core/stream.h"

namespace minibert {
namespace {

void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> why{};
  cudnnGetLastErrorString(why.data(), why.size());
  fail<InternalError>("cudnn: {} failed: {} {}", what, cudnnGetErrorString(status), why.data());
}
#define MB_CUDNN(expression) check((expression), #expression)

/// The library, opened at the first use and open until the process ends.
cudnnHandle_t library() {
  static const cudnnHandle_t handle = [] {
    cudnnHandle_t opened = nullptr;
    MB_CUDNN(cudnnCreate(&opened));
    return opened;
  }();
  return handle;
}

// ---- Descriptors: cuDNN's objects, filled by attribute ------------------------------------------

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    MB_CUDNN(cudnnBackendCreateDescriptor(type, &raw_));
  }
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;

  using Name = cudnnBackendAttributeName_t;
  template <typename T>
  Descriptor& set(Name name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    return set(name, type, values.size(), values.data());
  }
  template <typename T>
  Descriptor& set(Name name, cudnnBackendAttributeType_t type, const T& value) {
    return set(name, type, 1, &value);
  }
  Descriptor& set(Name name, const Descriptor& other) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.raw_);
  }
  template <typename T>
  T get(Name name, cudnnBackendAttributeType_t type) const {
    T value{};
    int64_t count = 0;
    MB_CUDNN(cudnnBackendGetAttribute(raw_, name, type, 1, &count, &value));
    return value;
  }
  /// Whether cuDNN accepts what was set.
  bool finish() { return cudnnBackendFinalize(raw_) == CUDNN_STATUS_SUCCESS; }
  Descriptor& finished() {
    MB_CUDNN(cudnnBackendFinalize(raw_));
    return *this;
  }
  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  Descriptor& set(Name name, cudnnBackendAttributeType_t type, size_t count, const void* values) {
    MB_CUDNN(cudnnBackendSetAttribute(raw_, name, type, static_cast<int64_t>(count), values));
    return *this;
  }
  cudnnBackendDescriptor_t raw_ = nullptr;
};

// ---- Graphs -------------------------------------------------------------------------------------

using Dims = std::vector<int64_t>;

cudnnDataType_t type_of(DType type) {
  switch (type) {
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    case DType::f16:
      return CUDNN_DATA_HALF;
    case DType::i32:
      return CUDNN_DATA_INT32;
    default:
      return CUDNN_DATA_FLOAT;
  }
}

/// A plan with its buffers, ready to be queued.
class Plan {
 public:
  Plan(Descriptor plan, std::deque<float> scalars, std::vector<Tensor> held)
      : plan_(std::move(plan)), scalars_(std::move(scalars)), held_(std::move(held)) {}
  void prepare(const std::vector<int64_t>& names, const std::vector<void*>& places) {
    const auto bytes =
        plan_.get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64);
    workspace_ = Tensor::empty({bytes}, DType::u8, MemoryCategory::workspace, Device::cuda);
    pack_.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, names)
        .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, places)
        .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace_.raw())
        .finished();
  }
  void queue() const {
    MB_CUDNN(cudnnSetStream(library(), static_cast<cudaStream_t>(current_stream().handle)));
    MB_CUDNN(cudnnBackendExecute(library(), plan_.raw(), pack_.raw()));
  }

 private:
  Descriptor plan_, pack_{CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR};
  std::deque<float> scalars_;  // of the host, read when the plan is queued
  std::vector<Tensor> held_;
  Tensor workspace_;
};

/// Operations and the tensors between them. A tensor is named by the number that its maker returns.
class Graph {
 public:
  using Id = size_t;

  /// `elements` from the beginning of t, [dims] with these strides.
  Id tensor(const Tensor& t, const Dims& dims, const Dims& strides, int64_t elements = 0) {
    held_.push_back(t);
    void* place =
        static_cast<std::byte*>(t.raw()) + elements * static_cast<int64_t>(size_of(t.dtype()));
    names_.push_back(static_cast<int64_t>(tensors_.size()));
    places_.push_back(place);
    return add(described(type_of(t.dtype()), dims, strides));
  }
  /// A number that cuDNN reads on the host, of as many dimensions as the graph's tensors.
  Id scalar(float value) {
    scalars_.push_back(value);
    names_.push_back(static_cast<int64_t>(tensors_.size()));
    places_.push_back(&scalars_.back());
    Descriptor d = described(CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1});
    d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, true);
    return add(std::move(d));
  }
  /// A tensor inside the graph, which never is in memory.
  Id between(const Dims& dims, const Dims& strides, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    Descriptor d = described(type, dims, strides);
    d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, true);
    return add(std::move(d));
  }

  /// An operation whose attributes are tensors, and what else `more` sets.
  void operation(cudnnBackendDescriptorType_t type,
                 const std::vector<std::pair<Descriptor::Name, Id>>& operands,
                 const std::function<void(Descriptor&)>& more = {}) {
    Descriptor d(type);
    for (const auto& [name, id] : operands) d.set(name, tensors_[id]);
    if (more) more(d);
    refused_ |= !d.finish();
    operations_.push_back(std::move(d));
  }

  /// The first plan of those that the library's heuristics offer which can be built here, or null.
  std::shared_ptr<const Plan> plan() {
    std::vector<cudnnBackendDescriptor_t> raw;
    for (const Descriptor& d : operations_) raw.push_back(d.raw());
    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, library())
        .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw);
    if (refused_ || !graph.finish()) return nullptr;
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      for (const Descriptor& config : offers(graph, mode)) {
        Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, library())
            .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
        if (!plan.finish()) continue;
        // A deque keeps its elements' places when it is moved.
        auto ready = std::make_shared<Plan>(std::move(plan), std::move(scalars_), std::move(held_));
        ready->prepare(names_, places_);
        return ready;
      }
    }
    return nullptr;
  }

 private:
  Descriptor described(cudnnDataType_t type, const Dims& dims, const Dims& strides) const {
    constexpr int64_t kAlignment = 16;  // bytes
    Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, static_cast<int64_t>(tensors_.size()))
        .set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type)
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment)
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims)
        .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides);
    return d;
  }
  Id add(Descriptor d) {
    tensors_.push_back(std::move(d.finished()));
    return tensors_.size() - 1;
  }

  static std::vector<Descriptor> offers(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    std::vector<Descriptor> configs;
    if (!heuristics.finish()) return configs;
    int64_t count = 0;
    const auto get = [&](int64_t wanted, void* where) {
      return cudnnBackendGetAttribute(heuristics.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, wanted, &count, where);
    };
    MB_CUDNN(get(0, nullptr));
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < count; ++i) {
      configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
      raw.push_back(configs.back().raw());
    }
    MB_CUDNN(get(count, raw.data()));
    while (static_cast<int64_t>(configs.size()) > count) configs.pop_back();  // can't be built
    return configs;
  }

  std::vector<Descriptor> tensors_, operations_;
  bool refused_ = false;  // an operation is nothing that this version has
  std::vector<int64_t> names_;
  std::vector<void*> places_;
  std::deque<float> scalars_;
  std::vector<Tensor> held_;
};

Tensor on_device(const Shape& shape, DType type) {
  return Tensor::empty(shape, type, MemoryCategory::activations, Device::cuda);
}

std::optional<CudnnOp> op_of(Graph& forward, Graph& backward, Tensor y,
                             std::vector<Tensor> gradients) {
  const auto there = forward.plan(), back = backward.plan();
  if (!there || !back) return std::nullopt;
  return CudnnOp{[there] { there->queue(); }, [back] { back->queue(); }, std::move(y),
                 std::move(gradients)};
}

// ---- Attention ----------------------------------------------------------------------------------

/// Sizes and strides of attention's tensors, as [B, A, S, D].
struct AttentionForm {
  int64_t B, A, S, D, H = A * D;

  Dims heads() const { return {B, A, S, D}; }
  Dims turned_heads() const { return {B, A, D, S}; }
  Dims scores() const { return {B, A, S, S}; }
  Dims rows() const { return {B, A, S, 1}; }
  Dims lengths() const { return {B, 1, 1, 1}; }
  // Strides.
  Dims of_qkv() const { return {S * 3 * H, D, 3 * H, 1}; }
  Dims of_turned_qkv() const { return {S * 3 * H, D, 1, 3 * H}; }
  Dims of_y() const { return {S * H, D, H, 1}; }
  Dims of_dense_heads() const { return {A * S * D, S * D, D, 1}; }
  Dims of_scores() const { return {A * S * S, S * S, S, 1}; }
  Dims of_turned_scores() const { return {A * S * S, S * S, 1, S}; }
  Dims of_rows() const { return {A * S, S, 1, 1}; }
  Dims of_lengths() const { return {1, 1, 1, 1}; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(D)); }
};

/// The operations of attention's backward pass, each with its result.
class AttentionBackward {
 public:
  using Id = Graph::Id;
  AttentionBackward(Graph& graph, const AttentionForm& form, Id lengths)
      : graph_(graph), form_(form), lengths_(lengths) {}

  /// y = f(x) or f(x, b), element by element, or selected by t.
  Id map(cudnnPointwiseMode_t mode, Id x, std::optional<Id> b, Id y, std::optional<Id> t = {},
         cudnnDataType_t computed_in = CUDNN_DATA_FLOAT, int64_t axis = -1) {
    Descriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, computed_in);
    if (axis >= 0) how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
    how.finished();
    std::vector<std::pair<Descriptor::Name, Id>> operands = {
        {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x}, {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y}};
    if (b) operands.emplace_back(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
    if (t) operands.emplace_back(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *t);
    graph_.operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, operands, [&](Descriptor& d) {
      d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    });
    return y;
  }
  Id score(cudnnPointwiseMode_t mode, Id x, std::optional<Id> b = {}) {
    return map(mode, x, b, scores());
  }
  Id scores(cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return graph_.between(form_.scores(), form_.of_scores(), type);
  }

  /// c = a b; `cut`: which of the three sizes are the sequences' lengths.
  Id product(Id a, Id b, Id c, std::initializer_list<Descriptor::Name> cut) {
    Descriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finished();
    std::vector<std::pair<Descriptor::Name, Id>> operands = {
        {CUDNN_ATTR_OPERATION_MATMUL_ADESC, a},
        {CUDNN_ATTR_OPERATION_MATMUL_BDESC, b},
        {CUDNN_ATTR_OPERATION_MATMUL_CDESC, c}};
    for (const Descriptor::Name size : cut) operands.emplace_back(size, lengths_);
    graph_.operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, operands,
                     [&](Descriptor& d) { d.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how); });
    return c;
  }
  Id row_sum(Id x) {
    Descriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
            CUDNN_REDUCE_TENSOR_ADD)
        .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
        .finished();
    const Id y = graph_.between(form_.rows(), form_.of_rows());
    graph_.operation(
        CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
        {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x}, {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y}},
        [&](Descriptor& d) { d.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how); });
    return y;
  }
  /// x as another matrix, rounded to its type.
  Id turned(Id x, Id y) {
    graph_.operation(
        CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
        {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x}, {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y}});
    return y;
  }
  /// Minus infinity where row or column lie behind a sequence's end.
  Id masked(Id x) {
    const auto index = [&](int64_t axis) {
      return map(CUDNN_POINTWISE_GEN_INDEX, x, {}, scores(CUDNN_DATA_INT32), {}, CUDNN_DATA_INT32,
                 axis);
    };
    const auto logical = [&](cudnnPointwiseMode_t mode, Id a, Id b) {
      return map(mode, a, b, scores(CUDNN_DATA_BOOLEAN), {}, CUDNN_DATA_BOOLEAN);
    };
    const Id row = index(2), column = index(3);
    const Id in_row = logical(CUDNN_POINTWISE_CMP_LT, row, lengths_);
    const Id in_column = logical(CUDNN_POINTWISE_CMP_LT, column, lengths_);
    const Id inside = logical(CUDNN_POINTWISE_LOGICAL_AND, in_row, in_column);
    const Id outside = graph_.scalar(-std::numeric_limits<float>::infinity());
    return map(CUDNN_POINTWISE_BINARY_SELECT, x, outside, scores(), inside);
  }

 private:
  Graph& graph_;
  const AttentionForm& form_;
  Id lengths_;
};

}  // namespace

std::string cudnn_description() {
  const size_t v = cudnnGetVersion();
  return fmt::format("cuDNN {}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

std::optional<CudnnOp> cudnn_attention(const Tensor& qkv, const Tensor& dy, int64_t sequences,
                                       int64_t heads) {
  const int64_t T = qkv.dim(0), H = qkv.dim(1) / 3;
  const AttentionForm form{sequences, heads, T / sequences, H / heads};
  const DType type = qkv.dtype();
  const cudnnDataType_t rounded = type_of(type);
  const Tensor y = on_device({T, H}, type), dqkv = on_device({T, 3 * H}, type),
               statistics = on_device({sequences, heads, form.S}, DType::f32),
               lengths = on_device({sequences}, DType::i32);
  const std::vector<int32_t> all(static_cast<size_t>(sequences), static_cast<int32_t>(form.S));
  copy_to_device(all.data(), lengths);

  Graph forward;
  {
    const auto part = [&](int64_t i) {
      return forward.tensor(qkv, form.heads(), form.of_qkv(), i * H);
    };
    const auto q = part(0), k = part(1), v = part(2);
    const auto length = forward.tensor(lengths, form.lengths(), form.of_lengths());
    forward.operation(
        CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR,
        {{CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, forward.tensor(y, form.heads(), form.of_y())},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC,
          forward.tensor(statistics, form.rows(), form.of_rows())},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, forward.scalar(form.scale())},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_QDESC, length},
         {CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_KVDESC, length}});
  }

  Graph backward;
  {
    constexpr auto kM = CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC,
                   kN = CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
                   kK = CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC;
    Graph& g = backward;
    const auto part = [&](const Tensor& t, int64_t i) {
      return g.tensor(t, form.heads(), form.of_qkv(), i * H);
    };
    const auto turned_part = [&](int64_t i) {
      return g.tensor(qkv, form.turned_heads(), form.of_turned_qkv(), i * H);
    };
    const auto row_buffer = [&](const Tensor& t) {
      return g.tensor(t, form.rows(), form.of_rows());
    };
    AttentionBackward b(g, form, g.tensor(lengths, form.lengths(), form.of_lengths()));
    const auto q = part(qkv, 0), k_turned = turned_part(1), v_turned = turned_part(2);
    const auto dq = part(dqkv, 0), dk = part(dqkv, 1), dv = part(dqkv, 2);
    const auto out = g.tensor(y, form.heads(), form.of_y()),
               dout = g.tensor(dy, form.heads(), form.of_y());
    const auto scale = g.scalar(form.scale());

    // delta = the sum over a head's columns of dy y (times 1, where a dropout's factor may stand)
    const auto delta = row_buffer(on_device({sequences, heads, form.S}, DType::f32));
    const auto dout_out = b.map(CUDNN_POINTWISE_MUL, dout, out,
                                g.between(form.heads(), {form.S * H, form.S * form.D, H, 1}));
    b.map(CUDNN_POINTWISE_MUL, b.row_sum(dout_out), g.scalar(1), delta);
    // p = exp(scale q k^T - log-sum-exp);  dv = p^T dy
    auto p = b.product(q, k_turned, b.scores(), {kM, kN});
    p = b.score(CUDNN_POINTWISE_MUL, p, scale);
    p = b.score(CUDNN_POINTWISE_SUB, p, row_buffer(statistics));
    p = b.score(CUDNN_POINTWISE_EXP, b.masked(p));
    const auto turned_scores = [&] {
      return g.between(form.scores(), form.of_turned_scores(), rounded);
    };
    b.product(b.turned(p, turned_scores()), dout, dv, {kM, kK});
    // ds = scale p (dy v^T - delta);  dk = ds^T q
    auto ds = b.product(dout, v_turned, b.scores(), {kM, kN});
    ds = b.score(CUDNN_POINTWISE_SUB, ds, delta);
    ds = b.score(CUDNN_POINTWISE_MUL, ds, p);
    ds = b.score(CUDNN_POINTWISE_MUL, ds, scale);
    b.product(b.turned(ds, turned_scores()), q, dk, {kM, kK});
    // dq = ds k, summed in f32
    const auto k = b.turned(k_turned, g.between(form.heads(), form.of_qkv(), rounded));
    const auto sum = g.tensor(on_device({sequences, heads, form.S, form.D}, DType::f32),
                              form.heads(), form.of_dense_heads());
    b.product(ds, k, sum, {kM, kK});
    b.map(CUDNN_POINTWISE_IDENTITY, sum, {}, dq);
  }
  return op_of(forward, backward, y, {dqkv});
}

// ---- LayerNorm ----------------------------------------------------------------------------------

std::optional<CudnnOp> cudnn_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& beta,
                                        const Tensor& dy, float eps) {
  const int64_t T = x.dim(0), H = x.dim(1);
  const Dims strides = {H, 1, 1, 1};
  const auto matrix = [&](Graph& g, const Tensor& t) { return g.tensor(t, {T, H, 1, 1}, strides); };
  const auto vector = [&](Graph& g, const Tensor& t) { return g.tensor(t, {1, H, 1, 1}, strides); };
  const auto column = [&](Graph& g, const Tensor& t) {
    return g.tensor(t, {T, 1, 1, 1}, {1, 1, 1, 1});
  };
  const Tensor y = on_device({T, H}, x.dtype()), dx = on_device({T, H}, x.dtype()),
               mean = on_device({T}, DType::f32), rstd = on_device({T}, DType::f32),
               dweight = on_device({H}, weight.dtype()), dbeta = on_device({H}, beta.dtype());

  Graph forward;
  forward.operation(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR,
                    {{CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, matrix(forward, x)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, column(forward, mean)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, column(forward, rstd)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, vector(forward, weight)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, vector(forward, beta)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, forward.scalar(eps)},
                     {CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, matrix(forward, y)}},
                    [](Descriptor& d) {
                      d.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE,
                            CUDNN_LAYER_NORM)
                          .set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE,
                               CUDNN_NORM_FWD_TRAINING);
                    });
  Graph backward;
  backward.operation(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR,
                     {{CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, matrix(backward, x)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, column(backward, mean)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, column(backward, rstd)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, matrix(backward, dy)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, vector(backward, weight)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, vector(backward, dweight)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, vector(backward, dbeta)},
                      {CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, matrix(backward, dx)}},
                     [](Descriptor& d) {
                       d.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE,
                             CUDNN_LAYER_NORM);
                     });
  return op_of(forward, backward, y, {dx, dweight, dbeta});
}

}  // namespace minibert
