// wordpiece_trainer.cpp: counts words in parallel, then merges pairs from a lazily corrected heap.
// Easy to break: a count in the heap may be stale; it is compared with the true count when it
// reaches the top. See wordpiece_trainer.h. Test: ctest -R text_wordpiece_trainer.
#include "models/text/wordpiece_trainer.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/parallel.h"
#include "models/text/unicode.h"

namespace minibert {
namespace {

constexpr size_t kTables = 16;          // fixed, so that the thread count changes no result
constexpr size_t kLongestWord = 10000;  // bytes; longer words are encoded data: quadratic time
constexpr std::string_view kPrefix = "##";

using Pair = std::pair<int32_t, int32_t>;  // ids of neighbours in a word, left one first

struct PairHash {
  size_t operator()(const Pair& pair) const {
    const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32 |
                         static_cast<uint32_t>(pair.second);
    return static_cast<size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15u);
  }
};

/// A possible merge: the words that contain the pair, and its count when that was recorded.
struct Candidate {
  Pair pair;
  int64_t count;
  std::vector<size_t> words;

  /// Heap order: the most frequent pair on top, then the smallest ids.
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : other.pair < pair;
  }
};

/// A word as the ids of its pieces.
struct Word {
  std::vector<int32_t> pieces;
  int64_t count;
};

std::vector<uint32_t> characters_of(std::string_view word) {
  std::vector<uint32_t> characters;
  for (size_t i = 0; i < word.size();) {
    const DecodedCharacter c = decode_utf8(word, i);
    characters.push_back(c.code_point);
    i += c.length;
  }
  return characters;
}

std::string utf8(uint32_t code_point) {
  std::string text;
  append_utf8(code_point, text);
  return text;
}

class Trainer {
 public:
  Trainer(std::span<const WordCount> counts, const WordPieceTrainerOptions& options)
      : options_(options) {
    for (const std::string_view token : {kPadToken, kUnkToken, kClsToken, kSepToken, kMaskToken}) {
      id_of(std::string(token));
    }
    add_alphabet(counts);
    cut_words(counts);
    MB_CHECK(static_cast<int64_t>(tokens_.size()) <= options_.vocab_size,
             "tokenizer train: vocabulary size is {}, expected at least {} (5 special tokens and "
             "the text's alphabet, at word starts and after ##). Raise --vocab-size or lower "
             "--limit-alphabet.",
             options_.vocab_size, tokens_.size());
  }

  WordPieceTraining run() {
    count_all_pairs();
    while (static_cast<int64_t>(tokens_.size()) < options_.vocab_size && !heap_.empty()) {
      Candidate top = pop();
      const int64_t count = pair_counts_[top.pair];
      if (count != top.count) {
        top.count = count;
        push(std::move(top));
        continue;
      }
      if (count < options_.min_frequency) break;
      merge(top);
    }
    return {Vocab::from_tokens(std::move(tokens_), "tokenizer train"), characters_dropped_, merges_,
            last_merge_count_};
  }

 private:
  int32_t id_of(const std::string& token) {
    const auto [place, is_new] = ids_.try_emplace(token, static_cast<int32_t>(tokens_.size()));
    if (is_new) tokens_.push_back(token);
    return place->second;
  }

  /// Adds the most frequent characters; of equally frequent ones the smaller code point first.
  void add_alphabet(std::span<const WordCount> counts) {
    std::map<uint32_t, int64_t> frequency;
    for (const WordCount& entry : counts) {
      for (const uint32_t c : characters_of(entry.word)) frequency[c] += entry.count;
    }
    std::vector<std::pair<uint32_t, int64_t>> kept(frequency.begin(), frequency.end());
    const auto limit = std::min(kept.size(), static_cast<size_t>(options_.limit_alphabet));
    std::stable_sort(kept.begin(), kept.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    characters_dropped_ = static_cast<int64_t>(kept.size() - limit);
    kept.resize(limit);
    std::sort(kept.begin(), kept.end());
    for (const auto& [character, count] : kept) id_of(utf8(character));
  }

  void cut_words(std::span<const WordCount> counts) {
    std::map<uint32_t, int32_t> continuing;  // by code point: this order decides ties of pairs
    std::vector<std::vector<uint32_t>> cut;
    for (const WordCount& entry : counts) {
      cut.push_back(characters_of(entry.word));
      for (size_t i = 1; i < cut.back().size(); ++i) {
        if (ids_.contains(utf8(cut.back()[i]))) continuing.try_emplace(cut.back()[i], 0);
      }
    }
    for (auto& [character, id] : continuing) id = id_of(std::string(kPrefix) + utf8(character));
    for (size_t w = 0; w < cut.size(); ++w) {
      Word word{{}, counts[w].count};
      for (size_t i = 0; i < cut[w].size(); ++i) {
        const auto first = i == 0 ? ids_.find(utf8(cut[w][0])) : ids_.end();
        const auto later = i > 0 ? continuing.find(cut[w][i]) : continuing.end();
        if (first != ids_.end()) word.pieces.push_back(first->second);
        if (later != continuing.end()) word.pieces.push_back(later->second);
      }
      words_.push_back(std::move(word));
    }
  }

  void count_all_pairs() {
    for (size_t w = 0; w < words_.size(); ++w) {
      const auto& pieces = words_[w].pieces;
      for (size_t i = 1; i < pieces.size(); ++i) change_pair({pieces[i - 1], pieces[i]}, w, +1);
    }
    push_seen();
  }

  /// The pair appears (+1) or disappears (-1) in a word.
  void change_pair(const Pair& pair, size_t word, int direction) {
    pair_counts_[pair] += direction * words_[word].count;
    if (direction < 0) return;
    auto& seen = seen_[pair];
    if (seen.empty() || seen.back() != word) seen.push_back(word);
  }

  void push_seen() {
    for (auto& [pair, words] : seen_) {
      const int64_t count = pair_counts_[pair];
      if (count > 0) push({pair, count, std::move(words)});
    }
    seen_.clear();
  }

  void push(Candidate candidate) {
    heap_.push_back(std::move(candidate));
    std::push_heap(heap_.begin(), heap_.end());
  }

  Candidate pop() {
    std::pop_heap(heap_.begin(), heap_.end());
    Candidate top = std::move(heap_.back());
    heap_.pop_back();
    return top;
  }

  void merge(const Candidate& candidate) {
    const std::string& right = tokens_[candidate.pair.second];
    const size_t known = tokens_.size();
    const int32_t merged = id_of(tokens_[candidate.pair.first] + right.substr(kPrefix.size()));
    if (tokens_.size() > known) {
      ++merges_;
      last_merge_count_ = candidate.count;
    }
    for (const size_t w : candidate.words) merge_in_word(w, candidate.pair, merged);
    push_seen();
  }

  /// Replaces the pair from left to right in one pass, and updates the pairs beside it.
  void merge_in_word(size_t w, const Pair& pair, int32_t merged) {
    auto& pieces = words_[w].pieces;
    size_t kept = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const bool found =
          pieces[i] == pair.first && i + 1 < pieces.size() && pieces[i + 1] == pair.second;
      if (!found) {
        pieces[kept++] = pieces[i];
        continue;
      }
      ++i;
      if (kept > 0) {
        change_pair({pieces[kept - 1], pair.first}, w, -1);
        change_pair({pieces[kept - 1], merged}, w, +1);
      }
      if (i + 1 < pieces.size()) {
        change_pair({pair.second, pieces[i + 1]}, w, -1);
        change_pair({merged, pieces[i + 1]}, w, +1);
      }
      pieces[kept++] = merged;
    }
    pieces.resize(kept);
  }

  WordPieceTrainerOptions options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> pair_counts_;
  std::unordered_map<Pair, std::vector<size_t>, PairHash> seen_;  // new since the last push_seen()
  std::vector<Candidate> heap_;
  int64_t characters_dropped_ = 0, merges_ = 0, last_merge_count_ = 0;
};

}  // namespace

WordCounter::WordCounter(const TokenizerOptions& options) : words_(options), tables_(kTables) {}

void WordCounter::add(std::span<const std::string> lines) {
  parallel_blocks(static_cast<int64_t>(kTables), [&](int64_t block) {
    const auto table_number = static_cast<size_t>(block);
    Table& table = tables_[table_number];
    const size_t begin = lines.size() * table_number / kTables,
                 end = lines.size() * (table_number + 1) / kTables;
    for (size_t i = begin; i < end; ++i) {
      words_.split(lines[i], [&](std::string_view word) {
        if (word.size() > kLongestWord) return;
        const auto found = table.find(word);
        found != table.end() ? ++found->second : table.emplace(word, 1).first->second;
      });
    }
  });
}

std::vector<WordCount> WordCounter::sorted() const {
  Table all;
  for (const Table& table : tables_) {
    for (const auto& [word, count] : table) all[word] += count;
  }
  std::vector<WordCount> words;
  for (const auto& [word, count] : all) words.push_back({word, count});
  std::sort(words.begin(), words.end(),
            [](const WordCount& a, const WordCount& b) { return a.word < b.word; });
  return words;
}

WordPieceTraining train_wordpiece(std::span<const WordCount> words,
                                  const WordPieceTrainerOptions& options) {
  MB_CHECK(options.min_frequency >= 1, "tokenizer train: min_frequency is {}, expected at least 1.",
           options.min_frequency);
  MB_CHECK(options.limit_alphabet >= 1,
           "tokenizer train: limit_alphabet is {}, expected at least 1.", options.limit_alphabet);
  MB_CHECK_AS(DataError, !words.empty(),
              "tokenizer train: text holds no words, expected prose. Check the files.");
  return Trainer(words, options).run();
}

}  // namespace minibert
