// write_behind_test.cpp: of a long file the far part leaves the page cache while the end stays, and its bytes
// are those that were written. Expected: what mincore() says of its pages.
#include "models/text/write_behind.h"

#include <vector>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tests/models/text/text_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;

constexpr size_t kChunk = 1 << 20;
constexpr int kChunks = 100;  // MiB: more than WriteBehind::kKept

/// Of each MiB of a file the share of pages in the page cache.
std::vector<double> cached(int file) {
  void* data = ::mmap(nullptr, kChunk * kChunks, PROT_READ, MAP_SHARED, file, 0);
  const size_t pages = kChunk / static_cast<size_t>(::getpagesize());
  std::vector<unsigned char> there(pages * kChunks);
  EXPECT_EQ(::mincore(data, kChunk * kChunks, there.data()), 0);
  ::munmap(data, kChunk * kChunks);
  std::vector<double> shares(kChunks);
  for (size_t i = 0; i < there.size(); ++i)
    shares[i / pages] += (there[i] & 1) / static_cast<double>(pages);
  return shares;
}

std::vector<double> cached_after_writing(WriteBehind behind, bool& on_disk) {
  const TemporaryFolder folder;
  const int file = ::open((folder / "file").c_str(), O_RDWR | O_CREAT, 0600);
  struct statfs where {};
  on_disk = ::fstatfs(file, &where) == 0 && where.f_type != TMPFS_MAGIC;
  for (int i = 0; i < kChunks; ++i) {
    const std::vector<char> bytes(kChunk, static_cast<char>(i));
    EXPECT_EQ(::write(file, bytes.data(), kChunk), static_cast<ssize_t>(kChunk));
    behind.wrote(file, static_cast<int64_t>(kChunk) * (i + 1));
  }
  const std::vector<double> shares = cached(file);
  for (int i = 0; i < kChunks; ++i) {
    char byte = -1;
    EXPECT_EQ(::pread(file, &byte, 1, static_cast<off_t>(kChunk) * i), 1);
    EXPECT_EQ(byte, static_cast<char>(i));
  }
  ::close(file);
  return shares;
}

TEST(WriteBehind, ForgetsTheFarPartAlone) {
  bool on_disk = false;
  const auto shares = cached_after_writing(WriteBehind(/* forgets= */ true), on_disk);
  const auto far = static_cast<size_t>((kChunks - 1) - WriteBehind::kKept / kChunk -
                                       2 * WriteBehind::kStep / kChunk);
  for (size_t i = 0; i < far && on_disk; ++i) EXPECT_LT(shares[i], 0.1) << i;
  for (size_t i = kChunks - WriteBehind::kKept / kChunk; i < kChunks; ++i)
    EXPECT_EQ(shares[i], 1.0) << i;
}

TEST(WriteBehind, KeepsAllOtherwise) {
  bool on_disk = false;
  for (const double share : cached_after_writing(WriteBehind(), on_disk)) EXPECT_EQ(share, 1.0);
}

}  // namespace
}  // namespace minibert
