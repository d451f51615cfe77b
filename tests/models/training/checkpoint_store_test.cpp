// checkpoint_store_test.cpp: saving never leaves a run without a complete checkpoint, whatever the
// last call was that reached the disk; damage is found and named; rotation keeps the good ones.
#include "models/training/checkpoint_store.h"

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::flip_bit, testing::has, testing::message_of, testing::TemporaryFolder;
using testing::read_bytes, testing::write_bytes;

std::string content(int64_t step, const std::string& name) {
  return name + " of step " + std::to_string(step) + std::string(1000, 'x');
}

const std::vector<std::string> kFiles = {"config.json", "model.safetensors", "vocab.txt",
                                         "optimizer.safetensors", "trainer_state.json"};

/// Files whose text is the step that they belong to.
std::vector<CheckpointFile> contents(int64_t step) {
  std::vector<CheckpointFile> files;
  for (const std::string& name : kFiles)
    files.push_back({name, [=](const fs::path& path) {
                       return minibert::write_bytes(path, content(step, name));
                     }});
  return files;
}

std::optional<int64_t> newest(const fs::path& folder) {
  FileSystem files;
  std::vector<std::string> complaints;
  const auto found = CheckpointStore(folder, files).newest_good(complaints);
  if (!found) return std::nullopt;
  for (const std::string& name : kFiles)
    EXPECT_EQ(read_bytes(found->path / name), content(found->step, name));
  return found->step;
}

/// One call as the system got it.
struct Call {
  std::string what;
  fs::path path, other;  // relative to the run folder
  std::string text;      // what a write left in the file
};

/// Passes every call on and keeps a log of it.
class RecordingFileSystem : public FileSystem {
 public:
  explicit RecordingFileSystem(fs::path root) : root_(std::move(root)) {}
  std::vector<Call> log;

  void make_folder(const fs::path& path) override {
    FileSystem::make_folder(path);
    log.push_back({"mkdir", relative(path), {}, {}});
  }
  void write_file(const fs::path& path,
                  const std::function<void(const fs::path&)>& write) override {
    FileSystem::write_file(path, write);
    log.push_back({"write", relative(path), {}, read_bytes(path)});
  }
  void sync(const fs::path& path) override {
    FileSystem::sync(path);
    log.push_back({"fsync", relative(path), {}, {}});
  }
  void rename(const fs::path& from, const fs::path& to) override {
    FileSystem::rename(from, to);
    log.push_back({"rename", relative(from), relative(to), {}});
  }
  void make_link(const fs::path& target, const fs::path& link) override {
    FileSystem::make_link(target, link);
    log.push_back({"symlink", relative(link), target, {}});
  }
  void remove(const fs::path& path) override {
    const bool there = fs::exists(fs::symlink_status(path));
    FileSystem::remove(path);
    if (there) log.push_back({"remove", relative(path), {}, {}});
  }

 private:
  fs::path relative(const fs::path& path) const { return path.lexically_relative(root_); }
  fs::path root_;
};

/// What is on the disk after a power cut following the first `count` calls. `lazy`: only what was
/// synced is there: names up to the last sync of their folder, half of an unsynced file's bytes.
void replay(const std::vector<Call>& log, size_t count, bool lazy, const fs::path& root) {
  const auto synced_later = [&](size_t i, const fs::path& path) {
    for (size_t j = i + 1; j < count; ++j)
      if (log[j].what == "fsync" && log[j].path == path) return true;
    return false;
  };
  for (size_t i = 0; i < count; ++i) {
    const Call& call = log[i];
    const fs::path parent = call.path.has_parent_path() ? call.path.parent_path() : fs::path(".");
    if (call.what == "fsync") continue;
    if (lazy && !synced_later(i, parent)) continue;
    if (!fs::exists((root / call.path).parent_path())) continue;
    if (call.what == "mkdir") fs::create_directory(root / call.path);
    if (call.what == "write") {
      const bool whole = !lazy || synced_later(i, call.path);
      write_bytes(root / call.path, whole ? call.text : call.text.substr(0, call.text.size() / 2));
    }
    if (call.what == "rename") fs::rename(root / call.path, root / call.other);
    if (call.what == "symlink") fs::create_symlink(call.other, root / call.path);
    if (call.what == "remove") fs::remove_all(root / call.path);
  }
}

/// Log of saving step 2 after step 1 and rotating step 1 away.
std::vector<Call> log_of_second_save() {
  TemporaryFolder scratch;
  FileSystem plain;
  CheckpointStore(scratch.path(), plain).save(1, contents(1));
  RecordingFileSystem files(scratch.path());
  CheckpointStore store(scratch.path(), files);
  store.save(2, contents(2));
  store.rotate(1, {});
  EXPECT_EQ(newest(scratch.path()), 2);
  return files.log;
}

/// Number of prefixes (of both kinds) after which no whole checkpoint is left.
int losing_prefixes(const std::vector<Call>& log) {
  int losses = 0;
  for (size_t count = 0; count <= log.size(); ++count) {
    for (const bool lazy : {false, true}) {
      TemporaryFolder scratch;
      FileSystem plain;
      CheckpointStore(scratch.path(), plain).save(1, contents(1));
      replay(log, count, lazy, scratch.path());
      losses += !newest(scratch.path());
      CheckpointStore(scratch.path(), plain).remove_leftovers();
      losses += !newest(scratch.path());
    }
  }
  return losses;
}

TEST(CheckpointStore, EveryPrefixOfTheCallsLeavesAWholeCheckpoint) {
  EXPECT_EQ(losing_prefixes(log_of_second_save()), 0);
}

TEST(CheckpointStore, PrefixTestWouldSeeAMissingSync) {
  std::vector<Call> log = log_of_second_save();
  std::erase_if(log, [](const Call& call) {
    return call.what == "fsync" && call.path.filename() == "model.safetensors";
  });
  EXPECT_GT(losing_prefixes(log), 0);
}

TEST(CheckpointStore, SyncsFilesThenRenamesThenSyncsTheFolder) {
  const std::vector<Call> log = log_of_second_save();
  const auto at = [&log](const std::string& what, const std::string& path) {
    const auto found = std::find_if(log.begin(), log.end(), [&](const Call& call) {
      return call.what == what && call.path == path;
    });
    EXPECT_NE(found, log.end()) << what << " " << path;
    return found - log.begin();
  };
  const std::string folder = ".tmp-checkpoint-2";
  const auto renamed = at("rename", folder);
  for (const std::string name : {"model.safetensors", "trainer_state.json", "MANIFEST.json"}) {
    const auto written = at("write", folder + "/" + name),
               synced = at("fsync", folder + "/" + name);
    EXPECT_LT(written, synced) << name;
    EXPECT_LT(synced, renamed) << name;
  }
  EXPECT_GT(at("write", folder + "/MANIFEST.json"), at("fsync", folder + "/trainer_state.json"));
  EXPECT_LT(at("fsync", folder), renamed);
  EXPECT_EQ(log[static_cast<size_t>(renamed) + 1].what, "fsync");
  EXPECT_EQ(log[static_cast<size_t>(renamed) + 1].path, ".");
  EXPECT_GT(at("rename", "checkpoint-1"), at("rename", ".tmp-latest")) << "rotation comes last";
}

TEST(CheckpointStore, SameStepIsReplacedInOneGo) {
  TemporaryFolder scratch;
  FileSystem plain;
  CheckpointStore(scratch.path(), plain).save(2, contents(1));
  RecordingFileSystem files(scratch.path());
  CheckpointStore(scratch.path(), files).save(2, contents(2));
  EXPECT_EQ(newest(scratch.path()), 2);
  EXPECT_FALSE(fs::exists(scratch / ".tmp-checkpoint-2"));
  for (const Call& call : files.log) {
    EXPECT_FALSE(call.what == "remove" && call.path == "checkpoint-2");
    EXPECT_FALSE(call.what == "rename" && call.path == "checkpoint-2");
  }
}

TEST(CheckpointStore, LatestPointsToTheNewest) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  store.save(5, contents(5));
  EXPECT_EQ(fs::read_symlink(scratch / "latest"), "checkpoint-5");
  store.save(10, contents(10));
  EXPECT_EQ(fs::read_symlink(scratch / "latest"), "checkpoint-10");
  std::vector<std::string> complaints;
  EXPECT_EQ(read_bytes(find_checkpoint(scratch / "latest", complaints) / "model.safetensors"),
            content(10, "model.safetensors"));
}

TEST(CheckpointStore, DamageIsFoundNamedAndTheOneBeforeUsed) {
  const auto damaged = [](const std::function<void(const fs::path&)>& damage) {
    TemporaryFolder scratch;
    FileSystem files;
    CheckpointStore store(scratch.path(), files);
    store.save(1, contents(1));
    store.save(2, contents(2));
    damage(scratch / "checkpoint-2");
    std::vector<std::string> complaints;
    const auto found = store.newest_good(complaints);
    EXPECT_TRUE(found && found->step == 1);
    EXPECT_EQ(complaints.size(), 1u);
    return complaints.empty() ? std::string() : complaints.front();
  };
  EXPECT_TRUE(has(damaged([](const fs::path& p) { flip_bit(p / "model.safetensors", 500); }),
                  "model.safetensors: its checksum is"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) { fs::resize_file(p / "model.safetensors", 7); }),
                  "model.safetensors: has 7 bytes, expected"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) { fs::remove(p / "trainer_state.json"); }),
                  "trainer_state.json: is missing"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) { fs::remove(p / "MANIFEST.json"); }),
                  "MANIFEST.json: is missing, so the checkpoint was never finished"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) { write_bytes(p / "MANIFEST.json", "{"); }),
                  "MANIFEST.json: is damaged"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) {
                    write_bytes(p / "MANIFEST.json", R"({"format_version": 1, "files": {"a": 3}})");
                  }),
                  "its entry for a is damaged"));
  // /dev/zero has no end, and a pipe never begins.
  for (const std::string name : {"/dev/zero", "../a", ".."})
    EXPECT_TRUE(has(damaged([&](const fs::path& p) {
                      write_bytes(p / "MANIFEST.json",
                                  R"({"format_version": 1, "files": {")" + name +
                                      R"(": {"bytes": 3, "crc32": "00000000"}}})");
                    }),
                    "has an entry for \"" + name + "\", expected the name of a file"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) {
                    fs::remove(p / "vocab.txt");
                    EXPECT_EQ(::mkfifo((p / "vocab.txt").c_str(), 0600), 0);
                  }),
                  "vocab.txt: is missing or can't be read"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) {
                    write_bytes(p / "MANIFEST.json", R"({"format_version": 9, "files": {}})");
                  }),
                  "format_version is 9, expected 1 to 1"));
  EXPECT_TRUE(has(damaged([](const fs::path& p) {
                    write_bytes(p / "MANIFEST.json", R"({"format_version": 1, "files": {}})");
                  }),
                  "MANIFEST.json: has no entry for config.json, expected one"));
}

TEST(CheckpointStore, NothingWholeIsAnErrorThatListsWhatIsWrong) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  store.save(1, contents(1));
  flip_bit(scratch / "checkpoint-1/model.safetensors", 3);
  std::vector<std::string> complaints;
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { find_checkpoint(scratch.path(), complaints); }),
                  "holds no complete checkpoint: "));
  EXPECT_TRUE(has(
      message_of<CheckpointError>([&] { find_checkpoint(scratch / "checkpoint-1", complaints); }),
      "checksum"));
  EXPECT_TRUE(
      has(message_of<CheckpointError>([&] { find_checkpoint(scratch / "nothing", complaints); }),
          "is not a folder"));
}

/// Refuses the call with this number, as a full disk does.
class FullDisk : public RecordingFileSystem {
 public:
  FullDisk(fs::path root, size_t last) : RecordingFileSystem(std::move(root)), last_(last) {}
  void write_file(const fs::path& path,
                  const std::function<void(const fs::path&)>& write) override {
    count();
    RecordingFileSystem::write_file(path, write);
  }
  void make_folder(const fs::path& path) override {
    count();
    RecordingFileSystem::make_folder(path);
  }
  void sync(const fs::path& path) override {
    count();
    RecordingFileSystem::sync(path);
  }
  void rename(const fs::path& from, const fs::path& to) override {
    count();
    RecordingFileSystem::rename(from, to);
  }
  void make_link(const fs::path& target, const fs::path& link) override {
    count();
    RecordingFileSystem::make_link(target, link);
  }

 private:
  void count() {
    if (calls_++ == last_) fail<CheckpointError>("No space left on device");
  }
  size_t last_, calls_ = 0;
};

TEST(CheckpointStore, FullDiskAtAnyCallLeavesTheOldOneIntact) {
  for (size_t last = 0; last < 18; ++last) {
    TemporaryFolder scratch;
    FileSystem plain;
    CheckpointStore(scratch.path(), plain).save(1, contents(1));
    FullDisk full(scratch.path(), last);
    const std::string message = message_of<CheckpointError>(
        [&] { CheckpointStore(scratch.path(), full).save(2, contents(2)); });
    EXPECT_TRUE(has(message, "checkpoint-2: not saved: No space left")) << last << message;
    EXPECT_FALSE(fs::exists(scratch / ".tmp-checkpoint-2")) << last;
    verify_checkpoint(scratch / "checkpoint-1");
    EXPECT_TRUE(newest(scratch.path())) << last;
  }
}

TEST(CheckpointStore, RealLimitOnFileSizeLeavesTheOldOneIntact) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  store.save(1, contents(1));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{512, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::vector<CheckpointFile> large{
      {"model.safetensors",
       [](const fs::path& path) { return minibert::write_bytes(path, std::string(10000, 'y')); }}};
  const std::string message = message_of<CheckpointError>([&] { store.save(2, large); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(has(message, "model.safetensors: can't be written: File too large")) << message;
  EXPECT_EQ(newest(scratch.path()), 1);
  EXPECT_FALSE(fs::exists(scratch / "checkpoint-2"));
}

/// Takes every write and keeps one bit of a file otherwise.
class FaultyDisk : public FileSystem {
 public:
  explicit FaultyDisk(std::string name) : name_(std::move(name)) {}
  void write_file(const fs::path& path,
                  const std::function<void(const fs::path&)>& write) override {
    FileSystem::write_file(path, write);
    if (path.filename() == name_) flip_bit(path, 500);
  }

 private:
  std::string name_;
};

TEST(CheckpointStore, DiskThatKeepsOtherBytesThanItWasGivenIsFoundBeforeTheOldOneGoes) {
  for (const std::string name : {"model.safetensors", "trainer_state.json"}) {
    TemporaryFolder scratch;
    FileSystem plain;
    CheckpointStore(scratch.path(), plain).save(1, contents(1));
    FaultyDisk faulty(name);
    const std::string message = message_of<CheckpointError>(
        [&] { CheckpointStore(scratch.path(), faulty).save(2, contents(2)); });
    EXPECT_TRUE(has(message, name + ": its checksum is ")) << message;
    EXPECT_EQ(newest(scratch.path()), 1);
    EXPECT_FALSE(fs::exists(scratch / "checkpoint-2"));
  }
}

TEST(CheckpointStore, RotationKeepsTheNewestAndTheBest) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  for (const int64_t step : {1, 2, 3, 9, 10}) store.save(step, contents(step));
  store.rotate(2, {2});
  std::vector<int64_t> left;
  for (const StoredCheckpoint& checkpoint : store.list()) left.push_back(checkpoint.step);
  EXPECT_EQ(left, (std::vector<int64_t>{10, 9, 2}));
  store.rotate(0, {});
  EXPECT_EQ(newest(scratch.path()), 10) << "the last one always stays";
}

TEST(CheckpointStore, LaterOnesAreSetAsideNotLost) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  for (const int64_t step : {1, 2, 3}) store.save(step, contents(step));
  EXPECT_EQ(store.set_aside_after(1).size(), 2u);
  EXPECT_EQ(newest(scratch.path()), 1);
  EXPECT_EQ(read_bytes(scratch / "abandoned-checkpoint-3/model.safetensors"),
            content(3, "model.safetensors"));
  store.save(3, contents(3));
  EXPECT_EQ(store.set_aside_after(2), std::vector<std::string>{"abandoned-checkpoint-3.2"});
}

TEST(CheckpointStore, LeftoversOfAKilledSaveAreRemoved) {
  TemporaryFolder scratch;
  FileSystem files;
  CheckpointStore store(scratch.path(), files);
  store.save(1, contents(1));
  fs::create_directory(scratch / ".tmp-checkpoint-2");
  fs::create_directory(scratch / ".old-checkpoint-0");
  fs::create_symlink("checkpoint-2", scratch / ".tmp-latest");
  fs::create_directory(scratch / "checkpoint-two");
  store.remove_leftovers();
  for (const char* name : {".tmp-checkpoint-2", ".old-checkpoint-0", ".tmp-latest"})
    EXPECT_FALSE(fs::exists(fs::symlink_status(scratch / name))) << name;
  EXPECT_TRUE(fs::exists(scratch / "checkpoint-two")) << "no checkpoint of ours: left alone";
  EXPECT_EQ(store.list().size(), 1u);
}

}  // namespace
}  // namespace minibert
