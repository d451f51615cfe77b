// host_guard.cpp: one reserved region, handed out from its start and never given back.
#include "core/host_guard.h"

#include <atomic>
#include <mutex>

#include <sys/mman.h>

#include "core/error.h"

namespace minibert {
namespace {

constexpr size_t kRegionBytes = size_t{1} << 33;  // reserved, not used: pages come when touched
constexpr size_t kPage = 4096;

std::atomic<bool> g_enabled{false};
std::mutex g_mutex;  // guards what follows
std::byte* g_region = nullptr;
size_t g_used = 0;
bool g_closed = false;
int g_kernels = 0;  // KernelAccess scopes that are open

// The region is readable unless it is closed and no kernel runs.
void protect(bool was_readable) {
  const bool readable = !g_closed || g_kernels > 0;
  if (readable == was_readable || g_used == 0) return;
  const size_t bytes = (g_used + kPage - 1) / kPage * kPage;
  const int result = mprotect(g_region, bytes, readable ? PROT_READ | PROT_WRITE : PROT_NONE);
  MB_ASSERT(result == 0, "host guard: mprotect of {} bytes failed", bytes);
}

template <typename Change>
void change(const Change& apply) {
  std::lock_guard lock(g_mutex);
  const bool was_readable = !g_closed || g_kernels > 0;
  apply();
  protect(was_readable);
}

}  // namespace

void HostGuard::enable() {
  std::lock_guard lock(g_mutex);
  if (g_region) return;
  void* region = mmap(nullptr, kRegionBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MB_ASSERT(region != MAP_FAILED, "host guard: {} bytes can't be reserved", kRegionBytes);
  g_region = static_cast<std::byte*>(region);
  g_enabled = true;
}

bool HostGuard::enabled() {
  return g_enabled;
}

void HostGuard::close() {
  change([] { g_closed = true; });
}

void HostGuard::open() {
  change([] { g_closed = false; });
}

void* HostGuard::allocate(size_t bytes) {
  std::lock_guard lock(g_mutex);
  const bool readable = !g_closed || g_kernels > 0;
  // Whole pages, so that protection covers whole blocks.
  const size_t size = (bytes + kPage - 1) / kPage * kPage;
  if (g_used + size > kRegionBytes) return nullptr;
  std::byte* block = g_region + g_used;
  g_used += size;
  if (!readable) mprotect(block, size, PROT_NONE);
  return block;
}

bool HostGuard::contains(const void* pointer) {
  std::lock_guard lock(g_mutex);
  return g_region && pointer >= g_region && pointer < g_region + kRegionBytes;
}

void KernelAccess::begin() {
  change([] { ++g_kernels; });
}

void KernelAccess::end() {
  change([] { --g_kernels; });
}

}  // namespace minibert
