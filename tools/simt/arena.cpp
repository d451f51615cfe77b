// arena.cpp: lays out shared memory. Test: ctest -R simt_engine_shared.
#include "tools/simt/arena.h"

#include <cstring>
#include <new>
#include <vector>

#include <sys/mman.h>

#include "tools/simt/fiber.h"
#include "tools/simt/options.h"

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

uint64_t launch_number = 0;

namespace {

constexpr size_t kStaticLimit = 48 * 1024;
constexpr size_t kGuard = 128;   // bytes behind each array
constexpr size_t kFirst = 1024;  // address 0 is nobody's
constexpr size_t kArena = 512 * 1024;
constexpr int kCanary = 0xC5;

struct Array {
  const char* name;
  std::byte* address;
  size_t bytes;
};
std::vector<Array> arrays;  // of the launch, by address
std::byte* arena = nullptr;
size_t used = 0;
size_t static_bytes = 0, dynamic_bytes = 0;

size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

void fill(const Array& array) {
  std::memset(array.address, 0xFF, array.bytes);
}

/// Lays out an array at `used`, aligned, with its guard behind it.
Array& add(const char* name, size_t bytes, size_t alignment) {
  std::byte* address = arena + round_up(used, alignment);
  used = static_cast<size_t>(address - arena) + bytes + kGuard;
  if (used > kArena) fail("shared memory: more than the engine holds");
#if SIMT_ASAN
  __asan_unpoison_memory_region(address, bytes);
#else
  std::memset(address + bytes, kCanary, kGuard);
#endif
  arrays.push_back({name, address, bytes});
  fill(arrays.back());
  return arrays.back();
}

}  // namespace

void begin_arena(size_t bytes) {
  if (!arena) {
    void* memory = mmap(nullptr, kArena, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    arena = static_cast<std::byte*>(memory);
  }
  ++launch_number;
  arrays.clear();
  used = kFirst;
  static_bytes = 0;
  dynamic_bytes = bytes;
#if SIMT_ASAN
  __asan_poison_memory_region(arena, kArena);
#endif
  if (bytes) add("dynamic_shared()", bytes, 1024);
}

void* dynamic_shared() {
  if (!dynamic_bytes) fail("dynamic_shared(): the launch gave no dynamic shared memory");
  return arrays.front().address;
}

void* add_shared_array(SharedSite& site) {
  static_bytes += round_up(site.bytes, 16);
  const size_t all = static_bytes + dynamic_bytes,
               limit = static_cast<size_t>(options().shared_limit());
  if (static_bytes > kStaticLimit || all > limit)
    fail("MB_SHARED " + std::string(site.name) + " at " + to_string(site.place) +
         ": the block's arrays take " + std::to_string(static_bytes) + " bytes, at most " +
         std::to_string(kStaticLimit) + "; with dynamic memory " + std::to_string(all) +
         ", at most " + std::to_string(limit));
  site.address = add(site.name, site.bytes, 16).address;
  site.launch = launch_number;
  return site.address;
}

void fill_arena() {
  for (const Array& array : arrays) fill(array);
}

void check_arena() {
#if !SIMT_ASAN
  for (const Array& array : arrays)
    for (size_t i = 0; i < kGuard; ++i)
      if (array.address[array.bytes + i] != std::byte{kCanary})
        fail("shared memory: something wrote past the end of " + std::string(array.name) + " (" +
             std::to_string(array.bytes) + " bytes), at byte " + std::to_string(array.bytes + i));
#endif
}

void check_shared(const void* address, size_t bytes, const char* what, Place place) {
  const auto* first = static_cast<const std::byte*>(address);
  for (const Array& array : arrays)
    if (first >= array.address && first + bytes <= array.address + array.bytes) return;
  std::string text = std::string(what) + " at " + to_string(place) + ": ";
  for (const Array& array : arrays)
    if (first < array.address + array.bytes + kGuard && first + bytes > array.address)
      fail(text + "bytes " + std::to_string(first - array.address) + ".." +
           std::to_string(first - array.address + static_cast<ptrdiff_t>(bytes) - 1) +
           " are not in " + array.name + ", which has " + std::to_string(array.bytes));
  fail(text + "the address is not in shared memory");
}

uint32_t smem_u32(const void* shared) {
  const auto* address = static_cast<const std::byte*>(shared);
  if (address < arena || address >= arena + kArena)
    fail("smem_u32: the address is not in shared memory");
  return static_cast<uint32_t>(address - arena);
}

}  // namespace simt
