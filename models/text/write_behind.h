// write_behind.h: a long file goes to the disk while it is being written, so that the sync at its end waits
// for little: else it waits for what the kernel kept in memory, up to a tenth of all of it, and cores are
// idle meanwhile. Called by shard.cpp and spill_array.cpp. Easy to break: these are hints; only fsync() says
// that a file is on the disk. Test: ctest -R write_behind.
#pragma once

#include <cstdint>

namespace minibert {

class WriteBehind {
 public:
  static constexpr int64_t kStep = 8 << 20;   // bytes that go to the disk at once
  static constexpr int64_t kKept = 64 << 20;  // bytes of the end of a file that forgets()

  /// forgets: what lies further back than kKept leaves the page cache once it is on the disk. For files that
  /// are not read again soon: their place is then used again, by the pages that follow.
  explicit WriteBehind(bool forgets = false) : forgets_(forgets) {}
  /// `file`, a descriptor, is now this long, bytes.
  void wrote(int file, int64_t bytes);

 private:
  bool forgets_;
  int64_t started_ = 0, forgotten_ = 0;  // bytes
};

}  // namespace minibert
