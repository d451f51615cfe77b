// write_behind.cpp: sync_file_range() and posix_fadvise(). See write_behind.h.
#include "models/text/write_behind.h"

#include <fcntl.h>

namespace minibert {

void WriteBehind::wrote(int file, int64_t bytes) {
  if (bytes - started_ < kStep) return;
  ::sync_file_range(file, started_, bytes - started_, SYNC_FILE_RANGE_WRITE);
  const int64_t far = started_ - kKept;  // before what was started now
  started_ = bytes;
  if (!forgets_ || far <= forgotten_) return;
  ::sync_file_range(
      file, forgotten_, far - forgotten_,
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  ::posix_fadvise(file, forgotten_, far - forgotten_, POSIX_FADV_DONTNEED);
  forgotten_ = far;
}

}  // namespace minibert
