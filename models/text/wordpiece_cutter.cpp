// wordpiece_cutter.cpp: see wordpiece_cutter.h.
#include "models/text/wordpiece_cutter.h"

namespace minibert {

using Trie = WordPieceTrie;

WordPieceCutter::WordPieceCutter(std::span<const std::pair<std::string, int32_t>> pieces,
                                 size_t longest)
    : trie_(pieces, longest), failures_(trie_.states()) {
  failures_[Trie::kInitialRoot].state = failures_[Trie::kContinuationRoot].state = kNone;
  for (int32_t state = 0; state < std::ssize(failures_); ++state) {
    if (trie_.parent(state) >= 0) failure_of(state);
  }
}

/// Of a state with all states that it rests on: its parent, and shorter continuations. The depth of
/// recursion is the trie's.
WordPieceCutter::Failure WordPieceCutter::failure_of(int32_t state) {
  if (failures_[state].state != kUnknown) return failures_[state];
  Failure found;
  if (const int32_t id = trie_.id(state); id >= 0) {
    pieces_.push_back({id, kNone});
    found = {Trie::kContinuationRoot, static_cast<int32_t>(pieces_.size()) - 1, 1};
    return failures_[state] = found;
  }
  found = failure_of(trie_.parent(state));
  while (found.state != kNone) {
    const int32_t next = trie_.child(found.state, trie_.label(state));
    if (next >= 0) {
      found.state = next;
      break;
    }
    const Failure shorter = failure_of(found.state);
    append(shorter, found);
    found.state = shorter.state;
  }
  return failures_[state] = found;
}

/// Puts copies of the pieces of `from` after those of `to`.
void WordPieceCutter::append(const Failure& from, Failure& to) {
  std::vector<int32_t> ids;  // from the last to the first
  for (int32_t at = from.last_piece; at != kNone; at = pieces_[at].previous)
    ids.push_back(pieces_[at].id);
  for (; !ids.empty(); ids.pop_back()) {
    pieces_.push_back({ids.back(), to.last_piece});
    to.last_piece = static_cast<int32_t>(pieces_.size()) - 1;
    ++to.count;
  }
}

bool WordPieceCutter::fail(int32_t& state, std::vector<int32_t>& out) const {
  const Failure& failure = failures_[state];
  if (failure.state == kNone) return false;
  out.resize(out.size() + static_cast<size_t>(failure.count));
  auto place = out.rbegin();
  for (int32_t at = failure.last_piece; at != kNone; at = pieces_[at].previous)
    *place++ = pieces_[at].id;
  state = failure.state;
  return true;
}

bool WordPieceCutter::cut(std::string_view word, std::vector<int32_t>& out) const {
  const size_t before = out.size();
  int32_t state = Trie::kInitialRoot;
  for (const char byte : word) {
    int32_t next = trie_.child(state, static_cast<uint8_t>(byte));
    while (next < 0 && fail(state, out)) next = trie_.child(state, static_cast<uint8_t>(byte));
    if (next < 0) {
      out.resize(before);
      return false;
    }
    state = next;
  }
  while (state != Trie::kContinuationRoot && fail(state, out)) {
  }
  if (state == Trie::kContinuationRoot) return true;
  out.resize(before);
  return false;
}

}  // namespace minibert
