// checkpoint_store.cpp: durable folders, manifests, rotation.
#include "models/training/checkpoint_store.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/error.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

const std::string kPrefix = "checkpoint-";

/// Test hook: MINIBERT_TEST_CHECKPOINT_DELAY_MS lengthens each moment in which a kill would leave a
/// save or a rotation half done (tools/kill_test). Does nothing if unset.
void pause_for_tests() {
  const char* text = std::getenv("MINIBERT_TEST_CHECKPOINT_DELAY_MS");
  if (text) std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(text)));
}

std::string folder_name(int64_t step) {
  return kPrefix + std::to_string(step);
}

std::optional<int64_t> step_of(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path run_folder, FileSystem& files)
    : folder_(std::move(run_folder)), files_(files) {}

void CheckpointStore::save(int64_t step, const std::vector<CheckpointFile>& contents) {
  const fs::path temporary = folder_ / (".tmp-" + folder_name(step));
  const fs::path target = folder_ / folder_name(step);
  try {
    files_.remove(temporary);
    files_.make_folder(temporary);
    std::vector<std::pair<std::string, FileSum>> sums;
    for (const CheckpointFile& file : contents) {
      FileSum& sum = sums.emplace_back(file.name, FileSum{}).second;
      files_.write_file(temporary / file.name,
                        [&](const fs::path& path) { sum = file.write(path); });
      pause_for_tests();
      files_.sync(temporary / file.name);
    }
    files_.write_text(temporary / kCheckpointManifest, checkpoint_manifest(step, sums));
    files_.sync(temporary);
    verify_checkpoint(temporary);
    pause_for_tests();
    const bool replaces = fs::exists(target);
    if (replaces) {
      files_.exchange(temporary, target);
    } else {
      files_.rename(temporary, target);
    }
    pause_for_tests();
    files_.sync(folder_);
    if (replaces) files_.remove(temporary);
    point("latest", step);
  } catch (const Error& error) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    fail<CheckpointError>("{}: not saved: {} (earlier checkpoints are unchanged)", target.string(),
                          error.what());
  }
}

void CheckpointStore::point(const std::string& name, int64_t step) {
  if (!fs::exists(folder_ / folder_name(step))) return;
  const fs::path link = folder_ / (".tmp-" + name);
  files_.remove(link);
  files_.make_link(folder_name(step), link);
  pause_for_tests();
  files_.rename(link, folder_ / name);
  files_.sync(folder_);
}

void CheckpointStore::rotate(int64_t keep_last, const std::set<int64_t>& keep_steps) {
  const std::vector<StoredCheckpoint> all = list();
  for (size_t i = static_cast<size_t>(std::max<int64_t>(keep_last, 1)); i < all.size(); ++i) {
    if (keep_steps.count(all[i].step)) continue;
    const fs::path old = folder_ / (".old-" + folder_name(all[i].step));
    files_.remove(old);
    files_.rename(all[i].path, old);
    pause_for_tests();
    files_.sync(folder_);
    files_.remove(old);
    pause_for_tests();
  }
}

std::vector<StoredCheckpoint> CheckpointStore::list() const {
  std::vector<StoredCheckpoint> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) found.push_back({*step, entry.path()});
  }
  std::sort(found.begin(), found.end(),
            [](const StoredCheckpoint& a, const StoredCheckpoint& b) { return a.step > b.step; });
  return found;
}

std::optional<StoredCheckpoint> CheckpointStore::newest_good(
    std::vector<std::string>& complaints) const {
  for (const StoredCheckpoint& candidate : list()) {
    try {
      verify_checkpoint(candidate.path);
      return candidate;
    } catch (const CheckpointError& error) {
      complaints.push_back(error.what());
    }
  }
  return std::nullopt;
}

std::vector<std::string> CheckpointStore::set_aside_after(int64_t step) {
  std::vector<std::string> names;
  for (const StoredCheckpoint& checkpoint : list()) {
    if (checkpoint.step <= step) continue;
    std::string name = "abandoned-" + folder_name(checkpoint.step);
    for (int copy = 2; fs::exists(folder_ / name); ++copy)
      name = fmt::format("abandoned-{}.{}", folder_name(checkpoint.step), copy);
    files_.rename(checkpoint.path, folder_ / name);
    names.push_back(name);
  }
  if (!names.empty()) files_.sync(folder_);
  return names;
}

void CheckpointStore::remove_leftovers() {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(".tmp-", 0) == 0 || name.rfind(".old-", 0) == 0)
      leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) files_.remove(path);
}

fs::path find_checkpoint(const fs::path& path, std::vector<std::string>& complaints) {
  MB_CHECK_AS(CheckpointError, fs::is_directory(path),
              "{}: is not a folder, expected a checkpoint or a run folder", path.string());
  const bool is_checkpoint =
      fs::exists(path / kCheckpointManifest) || fs::exists(path / "trainer_state.json");
  if (is_checkpoint) {
    verify_checkpoint(path);
    return path;
  }
  FileSystem files;
  const auto newest = CheckpointStore(path, files).newest_good(complaints);
  MB_CHECK_AS(CheckpointError, newest, "{}: holds no complete checkpoint{}{}", path.string(),
              complaints.empty() ? "" : ": ", fmt::join(complaints, "; "));
  return newest->path;
}

}  // namespace minibert
