// roll_call.cpp: the comparison, and its sentences.
#include "dist/roll_call.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace minibert {
namespace {

std::string value_of(const Arrival& arrival, const std::string& what) {
  for (const Fingerprint& f : arrival.fingerprints)
    if (f.what == what) return f.value;
  return "none";
}

}  // namespace

std::string text_of_ranks(const std::vector<int>& ranks) {
  std::vector<std::string> parts;
  for (size_t i = 0, next; i < ranks.size(); i = next) {
    for (next = i + 1; next < ranks.size() && ranks[next] == ranks[next - 1] + 1;) ++next;
    parts.push_back(next == i + 1 ? fmt::format("{}", ranks[i])
                                  : fmt::format("{}-{}", ranks[i], ranks[next - 1]));
  }
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(parts, ", "));
}

std::optional<std::string> RollCall::arrive(Arrival arrival) {
  if (arrival.world != world())
    return fmt::format(
        "world size is {} on rank {} ({}), but {} on rank 0. Start every rank with the same world "
        "size",
        arrival.world, arrival.rank, arrival.from, world());
  if (arrival.rank < 0 || arrival.rank >= world())
    return fmt::format("rank {} ({}) is not a rank of {}, expected 0 to {}", arrival.rank,
                       arrival.from, world(), world() - 1);
  std::optional<Arrival>& place = here_[static_cast<size_t>(arrival.rank)];
  if (place)
    return fmt::format(
        "rank {} is here twice: from {} and from {}. Give every rank a number of its own",
        arrival.rank, place->from, arrival.from);
  place = std::move(arrival);
  return std::nullopt;
}

std::vector<int> RollCall::missing() const {
  std::vector<int> ranks;
  for (int r = 0; r < world(); ++r)
    if (!here_[static_cast<size_t>(r)]) ranks.push_back(r);
  return ranks;
}

std::string RollCall::str() const {
  const std::vector<int> ranks = missing();
  const std::string here =
      fmt::format("{} of {} ranks are here", world() - static_cast<int>(ranks.size()), world());
  return ranks.empty() ? here : fmt::format("{}, {} missing", here, text_of_ranks(ranks));
}

std::optional<std::string> RollCall::disagreement() const {
  std::vector<std::string> names;
  for (const auto& arrival : here_)
    for (const Fingerprint& f : arrival ? arrival->fingerprints : std::vector<Fingerprint>())
      if (std::ranges::find(names, f.what) == names.end()) names.push_back(f.what);
  for (const std::string& what : names) {
    std::map<std::string, std::vector<int>> ranks_with;
    for (const auto& arrival : here_)
      if (arrival) ranks_with[value_of(*arrival, what)].push_back(arrival->rank);
    if (ranks_with.size() < 2) continue;
    std::vector<std::string> sides;
    for (const auto& [value, ranks] : ranks_with)
      sides.push_back(fmt::format("{} on {}", value, text_of_ranks(ranks)));
    return fmt::format("{} differs: {}. It must be the same on every rank", what,
                       fmt::join(sides, ", "));
  }
  return std::nullopt;
}

}  // namespace minibert
