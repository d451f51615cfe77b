// memory.cpp: a bump allocator over one reserved range, with guard pages and canaries.
// An allocation is placed at the end of its pages, so that an overrun of 256 bytes or more leaves
// them:   | guard page | canary ... [bytes asked for] canary, under 256 bytes | guard page | ...
#include "tools/simt/memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>

#include "tools/simt/queue.h"
#include "tools/simt/runtime/fault_report.h"
#include "tools/simt/runtime/state.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace simt {
namespace {

constexpr size_t kReservedBytes = size_t{64} << 30;
constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr std::byte kCanary{0xC5};

struct Record {
  Allocation allocation;
  std::byte* pages = nullptr;
  std::byte* pages_end = nullptr;
};

struct Memory {
  std::byte* region = nullptr;
  size_t used = kPage;          // of the region, so that it starts with a guard page
  std::vector<Record> records;  // by rising address, live and freed
  std::vector<size_t> in_use;   // bytes, by device, rounded up to the alignment
  int open_scopes = 0;
};

Memory& memory() {
  static Memory* instance = new Memory;  // never destroyed: static objects may free late
  return *instance;
}

size_t round_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

void reserve(Memory& m) {
  void* region =
      mmap(nullptr, kReservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) give_up("simt: 64 GiB of addresses for device memory");
  m.region = static_cast<std::byte*>(region);
  install_fault_report();
}

void protect(const Record& record, bool open) {
  const size_t bytes = record.pages_end - record.pages;
  if (mprotect(record.pages, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    give_up("simt: mprotect of device memory");
}

void protect_all(Memory& m, bool open) {
  for (const Record& record : m.records)
    if (record.allocation.live) protect(record, open);
}

/// Gives the pages back to the system; their addresses stay reserved, without access.
void unmap(const Record& record) {
  const size_t bytes = record.pages_end - record.pages;
  ASAN_UNPOISON_MEMORY_REGION(record.pages, bytes);
  if (mmap(record.pages, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0) == MAP_FAILED)
    give_up("simt: unmapping device memory");
}

// A plain loop that ASan leaves alone: the canary's bytes are poisoned for everybody else.
__attribute__((no_sanitize("address"))) const std::byte* first_broken(const std::byte* begin,
                                                                      const std::byte* end) {
  for (const std::byte* p = begin; p < end; ++p)
    if (*p != kCanary) return p;
  return nullptr;
}

void check(const Record& record) {
  const Allocation& a = record.allocation;
  const std::byte* broken = first_broken(record.pages, a.base);
  if (!broken) broken = first_broken(a.base + a.bytes, record.pages_end);
  if (!broken) return;
  throw DeviceFault("something was written " + describe_address(broken), cudaErrorIllegalAddress);
}

/// The allocation whose pages hold this address; in a guard page, the likelier of its neighbours:
/// the live one, else the nearer one.
Record* record_of(const void* address) {
  Memory& m = memory();
  if (!is_device_address(address) || m.records.empty()) return nullptr;
  const auto* byte = static_cast<const std::byte*>(address);
  auto next =
      std::upper_bound(m.records.begin(), m.records.end(), byte,
                       [](const std::byte* a, const Record& record) { return a < record.pages; });
  if (next == m.records.begin()) return &*next;
  Record& before = *(next - 1);
  if (byte < before.pages_end || next == m.records.end()) return &before;
  if (before.allocation.live != next->allocation.live)
    return before.allocation.live ? &before : &*next;
  const bool nearer_before =
      byte - (before.allocation.base + before.allocation.bytes) < next->allocation.base - byte;
  return nearer_before ? &before : &*next;
}

}  // namespace

void* device_allocate(size_t bytes, int device) {
  std::lock_guard lock(runtime().mutex);
  Memory& m = memory();
  if (!m.region) reserve(m);
  m.in_use.resize(std::max<size_t>(m.in_use.size(), device + 1));
  const size_t rounded = round_up(bytes, kAlignment);
  const size_t capacity = runtime().model.memory_bytes;
  if (bytes == 0 || bytes > capacity || m.in_use[device] + rounded > capacity) return nullptr;
  const size_t page_bytes = round_up(rounded, kPage);
  if (m.used + page_bytes + kPage > kReservedBytes) {
    std::fprintf(stderr, "simt: the 64 GiB of device addresses are used up; none is used twice\n");
    return nullptr;
  }
  Record record;
  record.pages = m.region + m.used;
  record.pages_end = record.pages + page_bytes;
  record.allocation = {record.pages_end - rounded, bytes, m.records.size() + 1, device, true};
  m.used += page_bytes + kPage;
  m.in_use[device] += rounded;

  protect(record, true);
  std::byte* end = record.allocation.base + bytes;
  std::memset(record.pages, static_cast<int>(kCanary), record.allocation.base - record.pages);
  std::memset(record.allocation.base, 0xFF, bytes);
  std::memset(end, static_cast<int>(kCanary), record.pages_end - end);
  ASAN_POISON_MEMORY_REGION(record.pages, record.allocation.base - record.pages);
  ASAN_POISON_MEMORY_REGION(end, record.pages_end - end);
  if (runtime().strict_memory && m.open_scopes == 0) protect(record, false);
  m.records.push_back(record);
  return record.allocation.base;
}

void device_free(void* pointer) {
  std::lock_guard lock(runtime().mutex);
  if (!pointer) return;
  Record* record = record_of(pointer);
  if (!record || !record->allocation.live || record->allocation.base != pointer)
    throw DeviceFault("a free of " + describe_address(pointer), cudaErrorInvalidValue);
  const DeviceAccess access;
  Allocation& a = record->allocation;
  a.live = false;
  memory().in_use[a.device] -= round_up(a.bytes, kAlignment);
  const Record freed = *record;
  try {
    check(freed);
  } catch (const DeviceFault&) {
    unmap(freed);
    throw;
  }
  unmap(freed);
}

void free_all_device_memory() {
  for (Record& record : memory().records) {
    if (!record.allocation.live) continue;
    unmap(record);
    record.allocation.live = false;
  }
  memory().in_use.clear();
}

void check_device_memory() {
  std::lock_guard lock(runtime().mutex);
  const DeviceAccess access;
  for (const Record& record : memory().records)
    if (record.allocation.live) check(record);
}

std::optional<Allocation> find_allocation(const void* address) {
  std::lock_guard lock(runtime().mutex);
  const Record* record = record_of(address);
  if (!record) return std::nullopt;
  return record->allocation;
}

bool is_device_address(const void* address) {
  const Memory& m = memory();
  return m.region && address >= m.region && address < m.region + m.used;
}

bool in_device_memory(const void* address, size_t bytes) {
  const auto found = find_allocation(address);
  if (!found || !found->live) return false;
  const auto* byte = static_cast<const std::byte*>(address);
  return byte >= found->base && bytes <= found->bytes &&
         static_cast<size_t>(byte - found->base) <= found->bytes - bytes;
}

// Takes no lock: the handler of a fault calls it.
std::string describe_address(const void* address) {
  const Record* record = record_of(address);
  if (!record) return "an address that is no device memory";
  const Allocation& a = record->allocation;
  const auto* byte = static_cast<const std::byte*>(address);
  std::string place;
  if (byte < a.base) {
    place = std::to_string(a.base - byte) + " bytes before the start of ";
  } else if (byte >= a.base + a.bytes) {
    place = std::to_string(byte - (a.base + a.bytes)) + " bytes past the end of ";
  } else {
    place = "at byte " + std::to_string(byte - a.base) + " of ";
  }
  return place + (a.live ? "device allocation " : "freed device allocation ") +
         std::to_string(a.number) + " (" + std::to_string(a.bytes) + " bytes)";
}

size_t device_bytes_in_use(int device) {
  std::lock_guard lock(runtime().mutex);
  const Memory& m = memory();
  return device < static_cast<int>(m.in_use.size()) ? m.in_use[device] : 0;
}

size_t live_device_allocations(int device) {
  std::lock_guard lock(runtime().mutex);
  return std::count_if(memory().records.begin(), memory().records.end(), [&](const Record& record) {
    return record.allocation.live && record.allocation.device == device;
  });
}

void set_strict_memory(bool strict) {
  std::lock_guard lock(runtime().mutex);
  Memory& m = memory();
  if (runtime().strict_memory != strict && m.open_scopes == 0) protect_all(m, !strict);
  runtime().strict_memory = strict;
}

DeviceAccess::DeviceAccess() {
  std::lock_guard lock(runtime().mutex);
  Memory& m = memory();
  if (m.open_scopes++ == 0 && runtime().strict_memory) protect_all(m, true);
}

DeviceAccess::~DeviceAccess() {
  std::lock_guard lock(runtime().mutex);
  Memory& m = memory();
  if (--m.open_scopes == 0 && runtime().strict_memory) protect_all(m, false);
}

}  // namespace simt
