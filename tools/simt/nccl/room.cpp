// room.cpp: the layout of the shared memory, and who is in it.
#include "tools/simt/nccl/room.h"

#include <algorithm>
#include <cstring>
#include <random>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace simt {
namespace {

constexpr char kMagic[8] = {'s', 'i', 'm', 't', 'n', 'c', 'c', 'l'};

struct Header {
  std::atomic<int> ranks;  // 0 until the first rank says it
};

// header | seats | boxes | boxes' data | windows
constexpr size_t kPage = 4096;
constexpr size_t kSeats = kPage;
size_t boxes_at(int ranks) {
  return kSeats + sizeof(Seat) * static_cast<size_t>(ranks);
}
size_t box_data_at(int ranks) {
  const size_t end = boxes_at(ranks) + sizeof(Box) * static_cast<size_t>(ranks) * ranks;
  return (end + kPage - 1) / kPage * kPage;
}
size_t windows_at(int ranks) {
  return box_data_at(ranks) + kBox * static_cast<size_t>(ranks) * ranks;
}
size_t bytes_for(int ranks) {
  return windows_at(ranks) + kWindow * static_cast<size_t>(ranks);
}

/// A write lock on byte `rank` of the file, of this opening of it: the system lets go of it when the
/// process ends, in whatever way.
struct flock lock_of(int rank) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

}  // namespace

bool Room::create(ncclUniqueId* id) {
  std::random_device random;
  std::string name = "/simt-nccl-";
  for (int i = 0; i < 16; ++i) name += "0123456789abcdef"[random() % 16];
  const int file = ::shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file < 0) return false;
  const bool made = ::ftruncate(file, kPage) == 0;
  ::close(file);
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, kMagic, sizeof kMagic);
  std::strcpy(id->internal + sizeof kMagic, name.c_str());
  return made;
}

Room::Room(const ncclUniqueId& id, int rank, int ranks) : rank_(rank), ranks_(ranks) {
  error_ = join(id);
}

ncclResult_t Room::join(const ncclUniqueId& id) {
  if (std::memcmp(id.internal, kMagic, sizeof kMagic) != 0) return ncclInvalidArgument;
  name_ = id.internal + sizeof kMagic;
  file_ = ::shm_open(name_.c_str(), O_RDWR, 0600);
  if (file_ < 0) return ncclSystemError;
  const size_t bytes = bytes_for(ranks_);
  // A file only grows: who says another number of ranks is refused below.
  if (::lseek(file_, 0, SEEK_END) < static_cast<off_t>(bytes) &&
      ::ftruncate(file_, static_cast<off_t>(bytes)) != 0)
    return ncclSystemError;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) return ncclSystemError;
  memory_ = static_cast<std::byte*>(memory);
  int none = 0;
  Header& header = *reinterpret_cast<Header*>(memory_);
  if (!header.ranks.compare_exchange_strong(none, ranks_) && none != ranks_)
    return ncclInvalidArgument;
  struct flock lock = lock_of(rank_);
  if (::fcntl(file_, F_OFD_SETLK, &lock) != 0)
    return ncclInvalidUsage;  // the rank is there already
  Presence nobody = Presence::absent;
  return seat(rank_).presence.compare_exchange_strong(nobody, Presence::joined) ? ncclSuccess
                                                                                : ncclInvalidUsage;
}

Room::~Room() {
  if (!complete_ && !name_.empty()) ::shm_unlink(name_.c_str());
  if (memory_) ::munmap(memory_, bytes_for(ranks_));
  if (file_ >= 0) ::close(file_);
}

Seat& Room::seat(int rank) const {
  return reinterpret_cast<Seat*>(memory_ + kSeats)[rank];
}

std::byte* Room::window(int rank) const {
  return memory_ + windows_at(ranks_) + kWindow * static_cast<size_t>(rank);
}

Box& Room::box(int from, int to) const {
  return reinterpret_cast<Box*>(memory_ + boxes_at(ranks_))[from * ranks_ + to];
}

std::byte* Room::box_data(int from, int to) const {
  return memory_ + box_data_at(ranks_) + kBox * static_cast<size_t>(from * ranks_ + to);
}

bool Room::complete() {
  for (int rank = 0; !complete_ && rank < ranks_; ++rank)
    if (seat(rank).presence == Presence::absent) return false;
  if (!complete_) ::shm_unlink(name_.c_str());  // the first one; the others' calls do nothing
  return complete_ = true;
}

bool Room::lost_one(const std::function<bool(int)>& needed) const {
  for (int rank = 0; rank < ranks_; ++rank) {
    const Presence presence = seat(rank).presence;
    if (rank == rank_ || presence == Presence::absent) continue;
    if (presence == Presence::aborted) return true;
    if (presence == Presence::finalized) {
      if (needed(rank)) return true;
      continue;
    }
    struct flock lock = lock_of(rank);
    if (::fcntl(file_, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK &&
        seat(rank).presence == Presence::joined)
      return true;
  }
  return false;
}

}  // namespace simt
