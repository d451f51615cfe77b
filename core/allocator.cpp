// allocator.cpp: size classes of 1/8 octave above 4 KiB, one free list a class, and one mutex.
#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include "core/device_marks.h"
#include "core/error.h"
#include "core/host_guard.h"

namespace minibert {
namespace {

constexpr size_t kAlignment = 64;

// Rounds up to a multiple of 1/8 of the power of two below it: at most 12.5 % is lost, and few
// classes exist.
size_t class_of(size_t bytes) {
  if (bytes <= 4096)
    return std::max<size_t>(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

/// Blocks of the host from this size on are mappings of their own: what is released goes back to the
/// system whole, and malloc's heap, where libraries take and free their scratch, has no gaps of ours.
/// 128 KiB is where glibc's malloc begins to do so, before frees of large blocks move it up. Under
/// AddressSanitizer they stay on the heap, whose ends it watches.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kLeastMapped = SIZE_MAX;
#else
constexpr size_t kLeastMapped = 128 << 10;
#endif

size_t direct_size(size_t bytes) {
  return std::max<size_t>(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

const char* name_of(MemoryCategory category) {
  constexpr const char* names[kMemoryCategories] = {"weights",     "gradients", "optimizer state",
                                                    "activations", "workspace", "data"};
  return names[static_cast<int>(category)];
}

struct Allocator::State {
  mutable std::mutex mutex;
  // (device, whether host data, class size) -> free blocks
  std::map<std::tuple<Device, bool, size_t>, std::vector<void*>> cache;
  std::array<MemoryUsage, kMemoryCategories> usage{};
  MemoryUsage total;
  std::array<std::array<MemoryUsage, kMemoryCategories + 1>, 2> on_device{};  // the last: in all
  int64_t reserved = 0;
  std::array<MemoryUsage, 2> reserved_on_device{};
  int64_t system_allocations = 0;
  int64_t limit = 0;
  bool direct = false;
  bool has_memory = true;  // false: blocks are addresses alone
  uintptr_t next_address = uintptr_t{1} << 52;
  /// Of the host's blocks without memory, the most that was asked of each: the rest of a block is
  /// rounding, whose pages nobody touches, so the system gives no memory for them.
  std::map<void*, int64_t> touched;
  std::set<void*> direct_blocks;  // made in direct mode and not freed yet
  bool pin_host_data = false;
  std::set<void*> pinned_blocks;           // page-locked, held from the system
  std::optional<std::set<void*>> keeping;  // handed out since begin_keeping()
  std::map<void*, int> kept;               // by how many graphs

  /// Addresses beyond those that a process has, each once: who follows one faults.
  void* address_range(size_t bytes) {
    const uintptr_t first = next_address;
    next_address += bytes;
    return reinterpret_cast<void*>(first);  // NOLINT: not to be followed
  }

  void reserve(int64_t bytes, Device device) {
    MemoryUsage& there = reserved_on_device[static_cast<size_t>(device)];
    reserved += bytes;
    there.bytes += bytes;
    there.peak_bytes = std::max(there.peak_bytes, there.bytes);
  }

  void touch(void* block, int64_t bytes) {
    int64_t& before = touched[block];
    if (bytes > before) reserve(bytes - std::exchange(before, bytes), Device::cpu);
  }

  void* system_allocate(size_t bytes, MemoryCategory category, Device device) {
    if (!has_memory) return address_range(bytes);
    if (device == Device::cuda) return cuda_allocate(bytes);
    if (HostGuard::enabled() && category != MemoryCategory::data) return HostGuard::allocate(bytes);
    if (pin_host_data && category == MemoryCategory::data) {
      if (void* block = cuda_allocate_host(bytes)) {
        pinned_blocks.insert(block);
        return block;
      }
    }
    if (direct || bytes < kLeastMapped) return std::aligned_alloc(kAlignment, bytes);
    void* mapped =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mapped == MAP_FAILED ? nullptr : mapped;
  }

  /// `is_direct`: it was allocated in direct mode.
  void system_free(void* pointer, size_t bytes, Device device, bool is_direct) noexcept {
    if (!has_memory) return;
    if (device == Device::cuda) {
      cuda_free(pointer);
    } else if (pinned_blocks.erase(pointer) > 0) {
      cuda_free_host(pointer);
    } else if (HostGuard::contains(pointer)) {
      return;  // its region is never given back
    } else if (is_direct || bytes < kLeastMapped) {
      std::free(pointer);
    } else {
      ::munmap(pointer, bytes);
    }
  }

  void release_cache() {
    for (auto& [key, blocks] : cache) {
      const size_t before = blocks.size();
      std::erase_if(blocks,
                    [&, device = std::get<Device>(key), size = std::get<size_t>(key)](void* block) {
                      if (kept.contains(block)) return false;
                      system_free(block, size, device, /* is_direct= */ false);
                      return true;
                    });
      reserve(-static_cast<int64_t>(std::get<size_t>(key) * (before - blocks.size())),
              std::get<Device>(key));
    }
  }

  template <typename Change>
  void change_usage(size_t category, Device device, const Change& change) {
    auto& there = on_device[static_cast<size_t>(device)];
    for (MemoryUsage* each : {&usage[category], &total, &there[category], &there.back()})
      change(*each);
  }

  std::string table(Device device) const {
    const auto& there = on_device[static_cast<size_t>(device)];
    constexpr double kMebibyte = 1 << 20;
    std::string text = fmt::format("{:<16} {:>12} {:>12}\n", "memory (MiB)", "now", "peak");
    for (size_t i = 0; i < there.size(); ++i) {
      const char* name = i < kMemoryCategories ? name_of(static_cast<MemoryCategory>(i)) : "total";
      text += fmt::format("{:<16} {:>12.1f} {:>12.1f}\n", name,
                          static_cast<double>(there[i].bytes) / kMebibyte,
                          static_cast<double>(there[i].peak_bytes) / kMebibyte);
    }
    if (device == Device::cuda)
      text += fmt::format("{:<16} {:>12} {:>12.1f}\n", "the device has", "",
                          static_cast<double>(cuda_device().memory_bytes) / kMebibyte);
    return text;
  }
};

Allocator::Allocator(bool has_memory) : state_(new State) {
  state_->has_memory = has_memory;
  const char* direct = std::getenv("MINIBERT_DIRECT_ALLOCATOR");
  state_->direct = has_memory && direct && std::string(direct) == "1";
}
Allocator::~Allocator() {
  state_->release_cache();
}

namespace {
thread_local Allocator* t_allocator = nullptr;
}

Allocator& Allocator::instance() {
  // Leaked on purpose: tensors in static storage may outlive it.
  static Allocator* process = new Allocator(/* has_memory= */ true);
  return t_allocator ? *t_allocator : *process;
}

std::unique_ptr<Allocator> Allocator::without_memory() {
  return std::unique_ptr<Allocator>(new Allocator(/* has_memory= */ false));
}

void Allocator::use(Allocator* allocator) {
  t_allocator = allocator;
}

void* Allocator::allocate(size_t bytes, MemoryCategory category, Device device) {
  std::lock_guard lock(state_->mutex);
  State& s = *state_;
  const size_t size = class_of(bytes);
  void* block = nullptr;
  if (s.limit == 0 || s.total.bytes + static_cast<int64_t>(bytes) <= s.limit) {
    auto& blocks = s.cache[{device, category == MemoryCategory::data, size}];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
    } else {
      // A direct block has its own size, so it must never get into the cache: see free().
      const size_t asked = s.direct ? direct_size(bytes) : size;
      block = s.system_allocate(asked, category, device);
      if (!block) {
        s.release_cache();
        block = s.system_allocate(asked, category, device);
      }
      if (block) {
        if (s.has_memory || device == Device::cuda) s.reserve(static_cast<int64_t>(size), device);
        ++s.system_allocations;
        if (s.direct) s.direct_blocks.insert(block);
      }
    }
  }
  if (!block) {
    fail<OutOfMemory>(
        "allocator: {:.1f} MiB for {} on {} could not be had.\n{}Use a smaller --micro-batch-size "
        "(the result is the same, "
        "accumulation makes up for it), a shorter --sequence-length, or a smaller model.",
        static_cast<double>(bytes) / (1 << 20), name_of(category), name_of(device),
        s.table(device));
  }
  if (!s.has_memory && device == Device::cpu) s.touch(block, static_cast<int64_t>(bytes));
  s.change_usage(static_cast<size_t>(category), device, [&](MemoryUsage& usage) {
    usage.bytes += static_cast<int64_t>(bytes);
    usage.peak_bytes = std::max(usage.peak_bytes, usage.bytes);
  });
  if (s.keeping && device == Device::cuda) s.keeping->insert(block);
  return block;
}

void Allocator::free(void* pointer, size_t bytes, MemoryCategory category, Device device) noexcept {
  std::lock_guard lock(state_->mutex);
  State& s = *state_;
  const size_t size = class_of(bytes);
  s.change_usage(static_cast<size_t>(category), device,
                 [&](MemoryUsage& usage) { usage.bytes -= static_cast<int64_t>(bytes); });
  const bool is_direct = s.direct_blocks.erase(pointer) > 0;
  if (s.direct || is_direct) {
    s.system_free(pointer, size, device, is_direct);
    s.reserve(-static_cast<int64_t>(size), device);
  } else {
    s.cache[{device, category == MemoryCategory::data, size}].push_back(pointer);
  }
}

MemoryUsage Allocator::usage(MemoryCategory category) const {
  std::lock_guard lock(state_->mutex);
  return state_->usage[static_cast<int>(category)];
}
MemoryUsage Allocator::total() const {
  std::lock_guard lock(state_->mutex);
  return state_->total;
}
int64_t Allocator::system_allocations() const {
  std::lock_guard lock(state_->mutex);
  return state_->system_allocations;
}
int64_t Allocator::reserved_bytes() const {
  std::lock_guard lock(state_->mutex);
  return state_->reserved;
}
int64_t Allocator::peak_reserved_bytes(Device device) const {
  std::lock_guard lock(state_->mutex);
  return state_->reserved_on_device[static_cast<size_t>(device)].peak_bytes;
}
void Allocator::reset_peak() {
  std::lock_guard lock(state_->mutex);
  const auto reset = [](MemoryUsage& usage) { usage.peak_bytes = usage.bytes; };
  for (MemoryUsage& usage : state_->usage) reset(usage);
  for (auto& there : state_->on_device)
    for (MemoryUsage& usage : there) reset(usage);
  reset(state_->total);
}
void Allocator::release_cache() {
  std::lock_guard lock(state_->mutex);
  state_->release_cache();
}
void Allocator::set_direct(bool direct) {
  std::lock_guard lock(state_->mutex);
  state_->release_cache();
  state_->direct = direct;
}
void Allocator::pin_host_data() {
  std::lock_guard lock(state_->mutex);
  state_->pin_host_data = true;
}
void Allocator::set_limit(int64_t bytes) {
  std::lock_guard lock(state_->mutex);
  state_->limit = bytes;
}
int64_t Allocator::limit() const {
  std::lock_guard lock(state_->mutex);
  return state_->limit;
}
MemoryUsage Allocator::total(Device device) const {
  std::lock_guard lock(state_->mutex);
  return state_->on_device[static_cast<size_t>(device)].back();
}

bool Allocator::direct() const {
  std::lock_guard lock(state_->mutex);
  return state_->direct;
}

// ---- What a graph's replay uses ----------------------------------------------------------------
void Allocator::begin_keeping() {
  std::lock_guard lock(state_->mutex);
  state_->keeping.emplace();
}

std::vector<void*> Allocator::end_keeping() {
  std::lock_guard lock(state_->mutex);
  std::vector<void*> blocks(state_->keeping->begin(), state_->keeping->end());
  state_->keeping.reset();
  for (void* block : blocks) ++state_->kept[block];
  return blocks;
}

void Allocator::let_go(const std::vector<void*>& blocks) noexcept {
  std::lock_guard lock(state_->mutex);
  auto& kept = state_->kept;
  for (void* block : blocks)
    if (const auto found = kept.find(block); --found->second == 0) kept.erase(found);
}

}  // namespace minibert
