// report.cpp: words for faults. Test: ctest -R simt_engine_planted_bugs.
#include "tools/simt/report.h"

#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/simt/builtins.h"
#include "tools/simt/launch.h"
#include "tools/simt/scheduler.h"

namespace simt {
namespace {

std::string coordinates(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

/// Where the fault is: kernel, launch, block, thread (null: none in particular), order.
std::string context(const Thread* thread) {
  const Scheduler& s = scheduler;
  if (!s.launch) return "";
  std::string text = "\n  in " + describe(*s.launch) + ", launched at " +
                     to_string(s.launch->place) + "\n  block " + coordinates(blockIdx);
  if (thread)
    text += ", thread " + coordinates(thread->index) + " (warp " + std::to_string(thread->warp) +
            ", lane " + std::to_string(thread->lane) + ")";
  return text + ", seed " + std::to_string(s.seed);
}

struct Group {
  uint32_t threads[kMaxWarps] = {};
  int count = 0;

  void add(const Thread& thread) {
    threads[thread.warp] |= 1u << thread.lane;
    ++count;
  }
};

std::string line_of(const Group& group, const std::string& what) {
  return "\n  " + std::to_string(group.count) + (group.count == 1 ? " thread " : " threads ") +
         what + ": " + ranges(group.threads, scheduler.warps);
}

}  // namespace

std::string to_string(Place place) {
  std::string_view file = place.file;
  const std::string_view root = SIMT_SOURCE_DIR "/", up = "../";
  if (file.starts_with(root)) file.remove_prefix(root.size());
  while (file.starts_with(up)) file.remove_prefix(up.size());  // compilers may be given such paths
  return std::string(file) + ":" + std::to_string(place.line);
}

void fail(const std::string& text) {
  throw Error(text + context(scheduler.current));
}

std::string ranges(const uint32_t* words, int count) {
  std::string text;
  const auto set = [&](int i) { return i < 32 * count && (words[i / 32] >> (i % 32) & 1); };
  for (int i = 0; i < 32 * count; ++i) {
    if (!set(i)) continue;
    const int first = i;
    while (set(i + 1)) ++i;
    text += (text.empty() ? "" : ", ") + std::to_string(first);
    if (i > first) text += ".." + std::to_string(i);
  }
  return text;
}

void deadlock() {
  std::map<std::string, Group> waiting;
  Group ended;
  for (int i = 0; i < scheduler.threads; ++i) {
    const Thread& thread = scheduler.thread[i];
    if (thread.ended) {
      ended.add(thread);
    } else if (thread.waits_in) {
      waiting[std::string("wait in ") + thread.waits_in + " at " + to_string(thread.place)].add(
          thread);
    }
  }
  std::string text = "deadlock: no thread of the block can go on";
  for (const auto& [what, group] : waiting) text += line_of(group, what);
  if (ended.count) text += line_of(ended, "have ended");
  throw Error(text + context(nullptr));
}

}  // namespace simt
