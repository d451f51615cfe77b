// device_memory.h: parts of the allocator that device cuda alone needs: what lies on the device, and
// memory that a graph's replay uses, which must not go back to the system although those who had it
// have freed it. Implemented by allocator.cpp; called by device_graph.cpp and by who reports memory.
// Test: ctest -R core_allocator.
#pragma once

#include <vector>

#include "core/allocator.h"

namespace minibert {

/// In use on one device, of all categories.
MemoryUsage memory_on(Device device);

/// Blocks of device cuda that the allocator hands out from begin to end, which returns them, stay with
/// it until they are let go, freed or not. It may hand them out again: the stream orders their uses.
void begin_keeping_blocks();
std::vector<void*> end_keeping_blocks();
void let_go_of_blocks(const std::vector<void*>& blocks) noexcept;
/// Whether the allocator gives freed memory back at once; then nothing can be kept.
bool allocator_is_direct();

}  // namespace minibert
