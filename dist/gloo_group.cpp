// gloo_group.cpp: Gloo's collectives behind ours, Gloo's connections as a Transport, our store as
// Gloo's. Gloo has no reduce-scatter for blocks of any size: the ring's runs over its connections.
#include "dist/gloo_group.h"

#include <algorithm>
#include <csignal>
#include <ctime>

#include <gloo/allgatherv.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include "core/error.h"
#include "dist/ring.h"

namespace minibert {
namespace {

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
}

/// Gloo's text without the place in its sources: "[/build/pair.cc:598] Connection ...".
std::string text_of(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return "Gloo: " + (text.starts_with('[') && end != text.npos ? text.substr(end + 2) : text);
}

/// While it lives, no signal reaches this thread, nor those that it starts: other threads take them.
/// Where a peer is gone, Gloo writes in a way that sends SIGPIPE, which would end the process
/// instead of being an error.
class WithoutSignals {
 public:
  WithoutSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, fault);
    pthread_sigmask(SIG_BLOCK, &all, &former_);
  }
  ~WithoutSignals() {
    if (sigismember(&former_, SIGPIPE) == 1) return;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    const timespec now{};
    while (sigtimedwait(&pipe, nullptr, &now) == SIGPIPE) {  // one that waits
    }
    pthread_sigmask(SIG_SETMASK, &former_, nullptr);
  }
  WithoutSignals(const WithoutSignals&) = delete;
  WithoutSignals& operator=(const WithoutSignals&) = delete;

 private:
  sigset_t former_;
};

/// Our store as Gloo sees it.
class GlooStore : public gloo::rendezvous::Store {
 public:
  GlooStore(minibert::Store& store, double timeout) : store_(store), timeout_(timeout) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set("gloo/" + key, {data.data(), data.size()});
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = store_.get("gloo/" + key, timeout_);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds&) override {
    wait(keys);
  }

 private:
  minibert::Store& store_;
  const double timeout_;
};

/// Gloo's connections. Both ends know the size of a message, so one without bytes is not sent.
class GlooTransport : public Transport {
 public:
  explicit GlooTransport(std::shared_ptr<gloo::Context> context) : context_(std::move(context)) {}
  int rank() const override { return context_->rank; }
  int world() const override { return context_->size; }

  void send(int to, std::span<const std::byte> bytes, uint64_t tag) override {
    if (bytes.empty()) return;
    sends_.push_back(
        context_->createUnboundBuffer(const_cast<std::byte*>(bytes.data()), bytes.size()));
    sends_.back()->send(to, slot(tag));
  }
  void receive(int from, std::span<std::byte> bytes, uint64_t tag) override {
    if (bytes.empty()) return;
    receives_.push_back(context_->createUnboundBuffer(bytes.data(), bytes.size()));
    receives_.back()->recv(from, slot(tag));
  }
  void finish() override {
    for (const auto& buffer : receives_) buffer->waitRecv(context_->getTimeout());
    for (const auto& buffer : sends_) buffer->waitSend(context_->getTimeout());
    receives_.clear();
    sends_.clear();
  }

 private:
  /// A number that no collective of Gloo uses: theirs begin with their kind, from 1 on.
  static uint64_t slot(uint64_t tag) { return uint64_t{0xff} << 56 | (tag & 0xffffffff) << 24; }

  const std::shared_ptr<gloo::Context> context_;
  std::vector<std::unique_ptr<gloo::transport::UnboundBuffer>> sends_, receives_;
};

class GlooGroup : public QueuedGroup {
 public:
  GlooGroup(std::shared_ptr<gloo::rendezvous::Context> context, Blame blame)
      : QueuedGroup(context->rank, context->size, std::move(blame)), context_(std::move(context)) {}
  ~GlooGroup() override { stop(); }
  const char* name() const override { return "gloo"; }

 private:
  void execute(const Collective& collective) override try {
    const WithoutSignals scope;
    const Elements& data = collective.data;
    const auto tag = static_cast<uint32_t>(collective.sequence);
    if (collective.kind == CollectiveKind::barrier) return barrier_with(tag);
    if (data.count == 0) return;
    switch (collective.kind) {
      case CollectiveKind::all_reduce:
        return all_reduce_with(data, tag);
      case CollectiveKind::reduce_scatter: {
        GlooTransport transport(context_);
        return ring_reduce_scatter(transport, data, tag);
      }
      case CollectiveKind::all_gather:
        return all_gather_with(data, tag);
      default:
        return broadcast_with(data, collective.root, tag);
    }
  } catch (const gloo::Exception& error) {
    const WithoutSignals scope;
    context_->closeConnections();  // ranks that wait for this one learn it now
    throw CommError(text_of(error));
  }

  void all_reduce_with(const Elements& data, uint32_t tag) {
    gloo::AllreduceOptions options(context_);
    const auto count = static_cast<size_t>(data.count);
    if (size_of(data.type) == 2) {  // Gloo has to know the size of an element, not its type
      options.setOutput(reinterpret_cast<uint16_t*>(data.data), count);
    } else if (size_of(data.type) == 4) {
      options.setOutput(reinterpret_cast<uint32_t*>(data.data), count);
    } else {
      options.setOutput(reinterpret_cast<uint64_t*>(data.data), count);
    }
    options.setReduceFunction(
        [type = data.type](void* sum, const void* a, const void* b, size_t n) {
          add_elements(type, sum, a, b, static_cast<int64_t>(n));
        });
    options.setTag(tag);
    gloo::allreduce(options);
  }

  void all_gather_with(const Elements& data, uint32_t tag) {
    std::vector<size_t> bytes;
    for (int r = 0; r < world(); ++r) bytes.push_back(data.block(r, world()).size());
    gloo::AllgathervOptions options(context_);
    options.setOutput(reinterpret_cast<char*>(data.data), std::move(bytes));  // in place
    options.setTag(tag);
    gloo::allgatherv(options);
  }

  void broadcast_with(const Elements& data, int root, uint32_t tag) {
    gloo::BroadcastOptions options(context_);
    options.setOutput(reinterpret_cast<char*>(data.data), data.size());
    options.setRoot(root);
    options.setTag(tag);
    gloo::broadcast(options);
  }

  void barrier_with(uint32_t tag) {
    gloo::BarrierOptions options(context_);
    options.setTag(tag);
    gloo::barrier(options);
  }

  const std::shared_ptr<gloo::rendezvous::Context> context_;
};

std::shared_ptr<gloo::transport::Device> device_for(const GlooOptions& options) try {
  gloo::transport::tcp::attr attributes;
  if (options.interface.empty()) {
    attributes.hostname = options.address;
  } else {
    attributes.iface = options.interface;
  }
  return gloo::transport::tcp::CreateDevice(attributes);
} catch (const std::exception& error) {
  fail<UsageError>("gloo: rank {} can't listen on {}: {}", options.rank,
                   options.interface.empty() ? options.address : "interface " + options.interface,
                   text_of(error));
}

}  // namespace

std::unique_ptr<ProcessGroup> gloo_group(Store& store, const GlooOptions& options) {
  const WithoutSignals scope;  // of the device's thread, too
  std::shared_ptr<gloo::transport::Device> device = device_for(options);
  auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.world);
  // Gloo waits five times as long for a connection.
  context->setTimeout(std::max(milliseconds_of(options.timeout / 5), std::chrono::milliseconds(1)));
  GlooStore for_gloo(store, options.timeout);
  try {
    context->connectFullMesh(for_gloo, device);
    context->setTimeout(milliseconds_of(options.timeout));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail<CommError>("rank {} of {}: gloo can't connect to the other ranks: {}", options.rank,
                    options.world, text_of(error));
  }
  return std::make_unique<GlooGroup>(std::move(context), options.blame);
}

bool gloo_available() {
  return true;
}

}  // namespace minibert
