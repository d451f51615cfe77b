// partial_folder.cpp: lock, take-over and renames of the folder that is being built. See
// partial_folder.h.
#include "models/text/partial_folder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "models/text/atomic_file.h"
#include "models/text/build_journal.h"
#include "models/text/manifest.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMarker = ".data-build";       // the lock file, in OUTPUT.partial
constexpr const char* kReplaced = ".earlier-build";  // the replaced build, during publish()

/// Something in `folder` that data build did not write; "" if there is nothing of the kind.
std::string foreign_part(const fs::path& folder) {
  if (!holds_manifest(folder)) return "no manifest.json of a build";
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name == "manifest.json" || name == "unigram.bin" ||
                      std::ranges::count(tokenizer_file_names(), name) > 0 ||
                      (name.starts_with("shard-") && name.ends_with(".mbs")) || name == kMarker ||
                      name == kReplaced;
    const std::string part = name == "held-out" ? foreign_part(entry.path()) : ours ? "" : name;
    if (!part.empty()) return part;
  }
  return "";
}

bool is_mount_point(const fs::path& folder) {
  struct stat here {};
  struct stat above {};
  return ::stat(folder.c_str(), &here) == 0 && ::stat((folder / "..").c_str(), &above) == 0 &&
         (here.st_dev != above.st_dev || here.st_ino == above.st_ino);
}

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void check_output(const fs::path& output, bool force) {
  std::error_code ignored;
  if (!fs::exists(output, ignored)) return;
  MB_CHECK(fs::is_directory(output, ignored),
           "{}: is a file, expected a folder or nothing. Choose another --output.",
           output.string());
  if (fs::is_empty(output, ignored)) return;
  MB_CHECK(force,
           "{}: is not empty, expected an empty or a new folder. Choose another --output, or "
           "replace it with --force.",
           output.string());
  const std::string foreign = foreign_part(output);
  MB_CHECK(foreign.empty(),
           "{}: holds {}, expected an earlier build and nothing else (--force replaces only that). "
           "Move away what you need and empty the folder by hand.",
           output.string(), foreign);
}

}  // namespace

fs::path resolved_output(const fs::path& given) {
  std::error_code error;
  const fs::path named = fs::absolute(without_trailing_slash(given), error);
  const fs::path output =
      error ? named : without_trailing_slash(fs::weakly_canonical(follow_links(named), error));
  MB_CHECK_AS(DataError, !error, "{}: cannot be reached ({}). Check the path of --output.",
              given.string(), error.message());
  const fs::path here = fs::current_path(error).lexically_relative(output);
  MB_CHECK(here.empty() || *here.begin() == "..",
           "{}: is the folder you are in, or above it, expected one that can be renamed. Choose "
           "another --output, such as {}.",
           given.string(), (given / "shards").string());
  MB_CHECK(!is_mount_point(output),
           "{}: is a mount point, expected a folder that can be renamed. Choose a folder in it: "
           "--output {}.",
           given.string(), (given / "shards").string());
  return output;
}

PartialFolder::PartialFolder(const fs::path& output, bool force, const std::string& journal)
    : output_(output), partial_(output.string() + ".partial"), force_(force) {
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) fail_create(error.message());
  MB_CHECK(fs::is_empty(partial_, error) || fs::exists(partial_ / kMarker, error),
           "{}: exists, expected nothing or the remains of a killed data build (which would hold "
           "{}). Move or remove it, or choose another --output.",
           partial_.string(), kMarker);
  take_lock();
  take_over(journal);
  try {
    check_output(output_, force_);
  } catch (...) {
    remove();
    throw;
  }
}

PartialFolder::Descriptor::~Descriptor() {
  if (value >= 0) ::close(value);
}

PartialFolder::~PartialFolder() {
  if (!published_) remove();
}

void PartialFolder::publish() {
  published_ = true;  // it is complete: from here on only the user may delete it
  std::error_code error, ignored;
  if (force_ && foreign_part(output_).empty()) fs::rename(output_, partial_ / kReplaced, error);
  if (!error) fs::rename(partial_, output_, error);
  const fs::path& now = error ? partial_ : output_;
  if (error) fs::rename(partial_ / kReplaced, output_, ignored);
  fs::remove(now / kMarker, ignored);
  MB_CHECK_AS(DataError, !error,
              "{}: cannot be renamed to {} ({}). Rename it by hand: it is complete.",
              partial_.string(), output_.string(), error.message());
  sync_folder(output_.parent_path());
  fs::remove_all(output_ / kReplaced, ignored);
}

void PartialFolder::fail_create(const std::string& why) const {
  fail<DataError>("{}: cannot be created ({}). Check the path of --output and its permissions.",
                  partial_.string(), why);
}

void PartialFolder::take_lock() {
  const fs::path marker = partial_ / kMarker;
  lock_.value = ::open(marker.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_.value < 0) fail_create(std::strerror(errno));
  bool taken = ::flock(lock_.value, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  struct stat locked {};
  struct stat named {};  // differs if the owner has finished in the meantime
  taken |= ::fstat(lock_.value, &locked) != 0 || ::stat(marker.c_str(), &named) != 0 ||
           locked.st_ino != named.st_ino;
  MB_CHECK(!taken,
           "{}: is being written by another data build, expected only one. Wait for it to end, or "
           "choose another --output.",
           partial_.string());
}

void PartialFolder::take_over(const std::string& journal) const {
  std::error_code error;
  if (fs::exists(partial_ / kReplaced) && !fs::exists(output_))
    fs::rename(partial_ / kReplaced, output_, error);
  if (!error && BuildJournal::is_of(partial_, journal)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(partial_)) {
    if (entry.path().filename() != kMarker && !error) fs::remove_all(entry.path(), error);
  }
  if (error) fail_create(error.message());
}

void PartialFolder::remove() const {
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

}  // namespace minibert
