// heartbeat.h: one line for each rank about what it is doing, rewritten in place: logs/rank-N.heartbeat.
// When a collective fails, the remaining ranks read each other's lines to say where the lost one stood;
// a person reads them when a run seems stuck. Called by trainer.cpp. Easy to break: a beat must cost no
// more than a small write, and its failure is no error. Test: ctest -R training_heartbeat.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace minibert {

class Heartbeat {
 public:
  /// Does nothing if the file can't be made.
  explicit Heartbeat(const std::filesystem::path& file);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// "step 120, backward, 2026-11-26T10:15:03Z". `doing` is a word or two.
  void beat(int64_t step, const char* doing);

  static std::filesystem::path file_of(const std::filesystem::path& run, int rank);
  /// "rank 1: step 120, backward, 12 s ago"; "" if the rank wrote none.
  static std::string last_of(const std::filesystem::path& run, int rank);

 private:
  int file_ = -1;
};

}  // namespace minibert
