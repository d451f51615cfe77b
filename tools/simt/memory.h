// memory.h: the emulated device's memory, laid out so that wrong accesses show.
// All of it lies in one reserved range of addresses, 64 GiB, no part of which is used twice. An
// allocation ends within 256 bytes of a page without access and starts on pages of its own behind
// another such page; it is filled with 0xFF, NaN in every floating type; the bytes between it and
// its pages' ends hold a canary. So a use after a free or a far overrun faults at once, and a near
// overrun shows at the free and at each device synchronise (under ASan, at once). In strict mode
// the host can't touch the memory at all. Easy to break: whoever runs code of the device opens the
// memory with DeviceAccess; enqueue() does it for kernels. Test: ctest -R simt_memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace simt {

struct Allocation {
  std::byte* base = nullptr;
  size_t bytes = 0;     // as asked for
  uint64_t number = 0;  // from 1, in order of allocation
  int device = 0;       // whose memory it is
  bool live = false;    // false: freed
};

/// 256-byte aligned. Null if the device has no more memory, or for 0 bytes.
void* device_allocate(size_t bytes, int device = 0);
/// Errors: DeviceFault if it is not the start of a live allocation, or if its canary is broken.
void device_free(void* pointer);
/// Errors: DeviceFault if any live allocation's canary is broken.
void check_device_memory();

/// The allocation, live or freed, whose pages hold this address, or the likelier one beside it.
std::optional<Allocation> find_allocation(const void* address);
/// Whether all of these bytes lie in one live allocation.
bool in_device_memory(const void* address, size_t bytes);
/// Whether the address lies in the reserved range.
bool is_device_address(const void* address);
/// "24 bytes past the end of device allocation 7 (1000 bytes)", for reports.
std::string describe_address(const void* address);

size_t device_bytes_in_use(int device = 0);
size_t live_device_allocations(int device = 0);

/// Strict mode: only work of the device may touch device memory; the host faults.
void set_strict_memory(bool strict);

/// Opens device memory while it lives; scopes may nest.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace simt
