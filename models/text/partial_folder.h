// partial_folder.h: the output folder of `data build` while it is being written: OUTPUT.partial,
// locked, and renamed to OUTPUT once it is complete. Called by shard_build.cpp. Easy to break: a
// killed build, a second build and --force must each leave the earlier build, and files of the
// user's own, as they were. Test: ctest -R partial_folder.
#pragma once

#include <filesystem>
#include <string>

namespace minibert {

/// The folder that --output means, links followed. Errors: UsageError if it can't be replaced by a
/// rename.
std::filesystem::path resolved_output(const std::filesystem::path& given);

/// The unfinished output, OUTPUT.partial, removed unless publish() was reached. A lock on a file in
/// it keeps other builds out and ends with the process, so remains of a killed build can be told.
class PartialFolder {
 public:
  /// journal: the identity of a build whose progress is kept if it is there (build_journal.h).
  PartialFolder(const std::filesystem::path& output, bool force, const std::string& journal = "");
  ~PartialFolder();
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  const std::filesystem::path& path() const { return partial_; }

  /// Renames the folder to its final name, replacing an earlier build if `force` was given.
  void publish();

 private:
  struct Descriptor {
    int value = -1;
    ~Descriptor();
  };

  [[noreturn]] void fail_create(const std::string& why) const;
  void take_lock();
  /// Deletes what a killed build left, unless it is this build's. If it was killed between the two
  /// renames of publish(), gives the earlier build its name back.
  void take_over(const std::string& journal) const;
  void remove() const;

  std::filesystem::path output_, partial_;
  bool force_;
  Descriptor lock_;
  bool published_ = false;
};

}  // namespace minibert
