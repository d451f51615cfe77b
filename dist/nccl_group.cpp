// nccl_group.cpp: NCCL's calls behind ours, marks in streams, and the thread that looks after them.
#include "dist/nccl_group.h"

#include <cstring>
#include <deque>
#include <thread>

#include <nccl.h>

#include "core/device.h"
#include "core/device_marks.h"
#include "core/device_stream.h"
#include "core/error.h"
#include "core/tensor.h"
#include "dist/ring.h"

namespace minibert {
namespace {

constexpr double kFarewell = 10;  // seconds that an orderly end may take

ncclDataType_t nccl_type(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return ncclFloat32;
    case ElementType::bf16:
      return ncclBfloat16;
    case ElementType::f16:
      return ncclFloat16;
    case ElementType::f64:
      return ncclFloat64;
    case ElementType::i64:
      return ncclInt64;
  }
  return ncclNumTypes;
}

/// "NCCL: unhandled system error ..." with what NCCL noted last.
std::string text_of(ncclResult_t result, ncclComm_t comm) {
  const char* detail = comm ? ncclGetLastError(comm) : nullptr;
  std::string text = fmt::format("NCCL: {}", ncclGetErrorString(result));
  if (detail && *detail) text += fmt::format(", {}", detail);
  return text;
}

/// Polls until what a call has begun is complete, for at most `seconds`. Most calls take
/// microseconds, so it does not sleep in the first millisecond.
template <typename Ask>
ncclResult_t follow_to_its_end(ncclResult_t result, double seconds, const Ask& ask) {
  const double start = seconds_now();
  while (result == ncclInProgress) {
    result = ask();
    const double passed = seconds_now() - start;
    if (passed > seconds) return result;
    if (passed < 1e-3) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return result;
}

ncclResult_t state_of(ncclComm_t comm) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
  return asked == ncclSuccess ? state : asked;
}

using Mark = std::shared_ptr<void>;

Mark timed_mark(Stream stream) {
  return {cuda_timed_mark(stream), cuda_end_mark};
}

class NcclGroup : public ProcessGroup {
 public:
  NcclGroup(const NcclOptions& options, ncclComm_t comm)
      : ProcessGroup(options.rank, options.world),
        timeout_(options.timeout),
        blame_(options.blame),
        ring_(options.ring),
        stream_(cuda_make_stream()),
        meeting_point_(Tensor::empty({1}, DType::f32, MemoryCategory::workspace, Device::cuda)),
        neighbours_(std::make_unique<Neighbours>(*this)),
        comm_(comm),
        thread_([this] { watch(); }) {
    if (options.wrap) neighbours_ = options.wrap(std::move(neighbours_));
  }
  ~NcclGroup() override;
  const char* name() const override { return ring_ ? "nccl-ring" : "nccl"; }
  void check() override;
  std::optional<Running> running() const override;

 private:
  /// A collective that is queued.
  struct Flight {
    std::shared_ptr<Work> work;
    Mark begin, end;       // in the stream; no end: it is just being queued
    double began_at = -1;  // on the host's clock; -1: the stream was not seen there yet
  };

  struct Message {
    bool sends;
    int peer;
    std::span<std::byte> bytes;
  };
  /// The ranks beside this one, for the ring: the messages of a step become one group of NCCL's.
  class Neighbours : public Transport {
   public:
    explicit Neighbours(NcclGroup& group) : group_(group) {}
    int rank() const override { return group_.rank(); }
    int world() const override { return group_.world(); }
    void send(int to, std::span<const std::byte> bytes, uint64_t) override {
      messages_.push_back({true, to, {const_cast<std::byte*>(bytes.data()), bytes.size()}});
    }
    void receive(int from, std::span<std::byte> bytes, uint64_t) override {
      messages_.push_back({false, from, bytes});
    }
    void finish() override { group_.exchange(std::exchange(messages_, {})); }
    std::byte* room(size_t bytes) override;

   private:
    NcclGroup& group_;
    std::vector<Message> messages_;
    Tensor room_;
    HeldMemory outgrown_;  // what the stream may still read
  };

  void start(std::shared_ptr<Work> work) override;
  void begin(const Collective& collective);
  void go_around(const Collective& collective);
  void exchange(const std::vector<Message>& messages);
  void follow(ncclResult_t begun);
  ncclResult_t queue(const Collective& collective);
  ncclResult_t gather_uneven(const Elements& data, cudaStream_t stream);
  ncclResult_t state();
  std::string text(ncclResult_t result);
  void watch();
  bool is_over(Flight& flight, double& seconds, std::string& wrong);
  void break_down(const std::string& why);

  const double timeout_;
  const Blame blame_;
  const bool ring_;
  const Stream stream_;
  const Tensor meeting_point_;  // of a barrier: whatever it holds
  std::unique_ptr<Transport> neighbours_;

  std::mutex calls_;  // NCCL's, so that none meets the abort
  ncclComm_t comm_;   // null: aborted

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Flight>> flights_;
  std::shared_ptr<Work> last_;
  std::string failed_;  // the first collective that failed
  bool stopping_ = false;
  std::thread thread_;
};

// ---- Queueing ----------------------------------------------------------------------------------

void NcclGroup::start(std::shared_ptr<Work> work) {
  const Collective& c = work->collective();
  const bool has_data = c.kind != CollectiveKind::barrier;
  if (has_data && c.data.device != Device::cuda)
    return work->finish(failure(c, 0, "nccl works in the memory of device cuda alone"));
  if (has_data && c.data.count == 0) return work->finish();

  const Mark before(cuda_mark(current_stream()), cuda_end_mark);
  cuda_follow(stream_, before.get());
  const auto flight = std::make_shared<Flight>(Flight{work, timed_mark(stream_), nullptr});
  {
    const std::lock_guard lock(mutex_);
    if (!failed_.empty()) return work->finish(failure(c, 0, failed_ + " failed before"));
    flights_.push_back(flight);
    last_ = work;
    changed_.notify_all();
  }
  try {
    begin(c);
  } catch (const CommError& error) {
    return break_down(error.what());
  }
  const Mark end = timed_mark(stream_);
  work->set_follow([end] { cuda_follow(current_stream(), end.get()); });
  const std::lock_guard lock(mutex_);
  flight->end = end;
  changed_.notify_all();
}

void NcclGroup::begin(const Collective& collective) {
  const bool adds = collective.kind == CollectiveKind::all_reduce ||
                    collective.kind == CollectiveKind::reduce_scatter;
  const ElementType type = collective.data.type;
  const bool wide = type == ElementType::f64 || type == ElementType::i64;
  if (ring_ && !(adds && wide)) return go_around(collective);
  follow(queue(collective));
}

/// Waits on the host until a call of NCCL has queued its work. Errors: CommError if it fails to.
void NcclGroup::follow(ncclResult_t begun) {
  const ncclResult_t result = follow_to_its_end(begun, timeout_, [this] { return state(); });
  MB_CHECK_AS(CommError, result == ncclSuccess, "{}", text(result));
}

ncclResult_t NcclGroup::queue(const Collective& collective) {
  const std::lock_guard lock(calls_);
  if (!comm_) return ncclInvalidUsage;  // break_down() has told whoever waits
  const Elements& data = collective.data;
  const auto stream = static_cast<cudaStream_t>(stream_.handle);
  const auto count = static_cast<size_t>(data.count);
  const ncclDataType_t type = nccl_type(data.type);
  const bool even = data.count % world() == 0;
  const Elements own = data.block(rank(), world());
  switch (collective.kind) {
    case CollectiveKind::all_reduce:
      return ncclAllReduce(data.data, data.data, count, type, ncclSum, comm_, stream);
    case CollectiveKind::reduce_scatter:
      if (!even) return ncclAllReduce(data.data, data.data, count, type, ncclSum, comm_, stream);
      return ncclReduceScatter(data.data, own.data, static_cast<size_t>(own.count), type, ncclSum,
                               comm_, stream);
    case CollectiveKind::all_gather:
      if (!even) return gather_uneven(data, stream);
      return ncclAllGather(own.data, data.data, static_cast<size_t>(own.count), type, comm_,
                           stream);
    case CollectiveKind::broadcast:
      return ncclBroadcast(data.data, data.data, count, type, collective.root, comm_, stream);
    case CollectiveKind::barrier:
      return ncclAllReduce(meeting_point_.raw(), meeting_point_.raw(), 1, ncclFloat32, ncclSum,
                           comm_, stream);
  }
  return ncclInvalidArgument;
}

ncclResult_t NcclGroup::gather_uneven(const Elements& data, cudaStream_t stream) {
  const auto fine = [](ncclResult_t r) { return r == ncclSuccess || r == ncclInProgress; };
  ncclResult_t result = ncclGroupStart();
  for (int root = 0; root < world() && fine(result); ++root) {
    const Elements block = data.block(root, world());
    if (block.count > 0)
      result = ncclBroadcast(block.data, block.data, static_cast<size_t>(block.count),
                             nccl_type(data.type), root, comm_, stream);
  }
  const ncclResult_t ended = ncclGroupEnd();
  return fine(result) ? ended : result;
}

// ---- The ring ----------------------------------------------------------------------------------

void NcclGroup::go_around(const Collective& collective) {
  const StreamScope scope(stream_);  // where kernels add
  ring_collective(*neighbours_, collective, Elements(meeting_point_));
}

/// Queues a step's messages as one group of NCCL's, without empty ones. Errors: CommError.
void NcclGroup::exchange(const std::vector<Message>& messages) {
  const auto stream = static_cast<cudaStream_t>(stream_.handle);
  const auto fine = [](ncclResult_t r) { return r == ncclSuccess || r == ncclInProgress; };
  const auto queue_all = [&] {
    const std::lock_guard lock(calls_);
    if (!comm_) return ncclInvalidUsage;  // break_down() has told whoever waits
    ncclResult_t result = ncclGroupStart();
    for (const auto& [sends, peer, bytes] : messages) {
      if (bytes.empty() || !fine(result)) continue;
      result = sends ? ncclSend(bytes.data(), bytes.size(), ncclUint8, peer, comm_, stream)
                     : ncclRecv(bytes.data(), bytes.size(), ncclUint8, peer, comm_, stream);
    }
    const ncclResult_t ended = ncclGroupEnd();
    return fine(result) ? ended : result;
  };
  follow(queue_all());
}

/// One buffer for all collectives, since they use it in the order of the group's stream.
std::byte* NcclGroup::Neighbours::room(size_t bytes) {
  const auto wanted = static_cast<int64_t>(bytes);
  if (!room_.defined() || room_.numel() < wanted) {
    if (room_.defined()) outgrown_.hold(group_.stream_, room_);
    room_ = Tensor::empty({wanted}, DType::u8, MemoryCategory::workspace, Device::cuda);
  }
  outgrown_.release_passed();
  return static_cast<std::byte*>(room_.raw());
}

ncclResult_t NcclGroup::state() {
  const std::lock_guard lock(calls_);
  return comm_ ? state_of(comm_) : ncclInvalidUsage;
}

std::string NcclGroup::text(ncclResult_t result) {
  const std::lock_guard lock(calls_);
  return text_of(result, comm_);
}

// ---- Looking after it --------------------------------------------------------------------------

void NcclGroup::watch() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !flights_.empty(); });
    if (flights_.empty()) return;
    const std::shared_ptr<Flight> flight = flights_.front();
    const bool queued = flight->end != nullptr;
    lock.unlock();
    std::string wrong;
    double seconds = 0;
    const bool over = is_over(*flight, seconds, wrong);
    if (!wrong.empty()) break_down(wrong);
    lock.lock();
    if (flights_.empty() || flights_.front() != flight) continue;  // it broke down
    if (over) {
      flights_.pop_front();
      flight->work->finish(nullptr, seconds);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(1), [&] {
        return !queued && flight->end != nullptr;  // else time alone brings news
      });
    }
  }
}

/// Whether the stream has passed it. `wrong`: why it never will.
bool NcclGroup::is_over(Flight& flight, double& seconds, std::string& wrong) try {
  const ncclResult_t now = state();
  if (now != ncclSuccess && now != ncclInProgress) {
    wrong = text(now);
    return false;
  }
  const bool begun = cuda_passed(flight.begin.get());
  const std::lock_guard lock(mutex_);
  if (flight.end && cuda_passed(flight.end.get())) {
    seconds = cuda_seconds_between(flight.begin.get(), flight.end.get());
    return true;
  }
  if (begun && flight.began_at < 0) flight.began_at = seconds_now();
  if (begun && seconds_now() - flight.began_at > timeout_)
    wrong = fmt::format("no end within {:g} s", timeout_);
  return false;
} catch (const std::exception& error) {
  wrong = error.what();
  return false;
}

/// Aborts, so that streams and other ranks wait no longer, then ends all handles with an error.
void NcclGroup::break_down(const std::string& why) {
  std::shared_ptr<Flight> first;
  double seconds = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!failed_.empty()) return;
    first = flights_.front();
    if (first->began_at >= 0) seconds = seconds_now() - first->began_at;
    failed_ = first->work->collective().str();
  }
  {
    const std::lock_guard lock(calls_);
    ncclCommAbort(std::exchange(comm_, nullptr));
  }
  const std::string blamed = blame_ ? blame_(failed_) : "";
  const std::string reason = blamed.empty() ? why : blamed + " (" + why + ")";
  const std::lock_guard lock(mutex_);
  for (const auto& flight : std::exchange(flights_, {})) {
    const Collective& c = flight->work->collective();
    flight->work->finish(flight == first ? failure(c, seconds, reason)
                                         : failure(c, 0, failed_ + " failed before: " + reason));
  }
}

void NcclGroup::check() {
  std::shared_ptr<Work> last;
  {
    const std::lock_guard lock(mutex_);
    last = last_;
  }
  if (last) last->wait_on_host();
}

std::optional<ProcessGroup::Running> NcclGroup::running() const {
  const std::lock_guard lock(mutex_);
  if (flights_.empty()) return std::nullopt;
  const Flight& front = *flights_.front();
  return Running{front.work->collective(), front.began_at < 0 ? 0 : seconds_now() - front.began_at};
}

NcclGroup::~NcclGroup() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  if (comm_) {
    const ncclResult_t end =
        follow_to_its_end(ncclCommFinalize(comm_), kFarewell, [this] { return state_of(comm_); });
    end == ncclSuccess ? ncclCommDestroy(comm_) : ncclCommAbort(comm_);
  }
  cuda_end_stream(stream_);
}

}  // namespace

// ---- Connecting --------------------------------------------------------------------------------

std::unique_ptr<ProcessGroup> nccl_group(Store& store, const NcclOptions& options) {
  const auto refuse = [&](ncclResult_t result, ncclComm_t comm) {
    std::string text = text_of(result, comm);
    if (result == ncclInvalidUsage)
      text += fmt::format(" (this machine has {} GPUs; NCCL wants one for each rank)",
                          cuda_device_count());
    if (result == ncclInProgress) text = fmt::format("no answer for {:g} s", options.timeout);
    ncclCommAbort(comm);
    fail<CommError>("rank {} of {}: nccl can't connect to the other ranks: {}", options.rank,
                    options.world, text);
  };
  ncclUniqueId id{};
  if (options.rank == 0) {
    const ncclResult_t made = ncclGetUniqueId(&id);
    if (made != ncclSuccess) refuse(made, nullptr);
    store.set("nccl/id", {id.internal, sizeof id.internal});
  } else {
    const std::string text = store.get("nccl/id", options.timeout);
    MB_CHECK_AS(CommError, text.size() == sizeof id.internal,
                "nccl: the id has {} bytes, expected {}", text.size(), sizeof id.internal);
    std::memcpy(id.internal, text.data(), sizeof id.internal);
  }
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t begun =
      ncclCommInitRankConfig(&comm, options.world, id, options.rank, &config);
  const ncclResult_t result =
      follow_to_its_end(begun, options.timeout, [&] { return state_of(comm); });
  if (result != ncclSuccess) refuse(result, comm);
  return std::make_unique<NcclGroup>(options, comm);
}

bool nccl_available() {
  return true;
}

}  // namespace minibert
