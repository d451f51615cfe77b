// roll_call.h: who of a run's ranks is here, and whether they agree. No network: rendezvous_server.h
// feeds it. Easy to break: ranks that differ must be found before the first step, and the message
// must name what differs, on which rank, and both values. Test: ctest -R dist_roll_call.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace minibert {

/// Something that must be equal on all ranks: {"configuration", "5f3a90cc"}.
struct Fingerprint {
  std::string what, value;
};

/// A rank that says it is here.
struct Arrival {
  int rank = 0, world = 1;
  std::string from = {};  // where its connection comes from
  std::vector<Fingerprint> fingerprints = {};
};

/// "rank 2", "ranks 0-2, 5". Expects them in order.
std::string text_of_ranks(const std::vector<int>& ranks);

class RollCall {
 public:
  explicit RollCall(int world) : here_(static_cast<size_t>(world)) {}
  int world() const { return static_cast<int>(here_.size()); }
  /// Takes a rank in. What is wrong with it, if something is: then the run can't start.
  std::optional<std::string> arrive(Arrival arrival);
  /// A rank's connection ended.
  void leave(int rank) { here_[static_cast<size_t>(rank)].reset(); }
  bool complete() const { return missing().empty(); }
  std::vector<int> missing() const;
  /// "3 of 4 ranks are here, rank 2 missing"
  std::string str() const;
  /// What the ranks that are here don't agree on, if anything.
  std::optional<std::string> disagreement() const;

 private:
  std::vector<std::optional<Arrival>> here_;  // [R]
};

}  // namespace minibert
