// spill_array_test.cpp: an array reads back what was appended, from memory and from its file, and so does
// a corpus of documents, and when its files are adopted. Expected values: the numbers that were appended.
#include "models/text/spill_array.h"

#include <cstring>
#include <numeric>

#include "core/error.h"
#include "models/text/document_set.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;

/// Appends sevens of 0, 1, 2, ... until there are `count` or a few more. Returns them.
std::vector<int32_t> filled(SpillArray<int32_t>& array, int count) {
  std::vector<int32_t> chunk(7), all;
  while (static_cast<int>(all.size()) < count) {
    std::iota(chunk.begin(), chunk.end(), static_cast<int32_t>(all.size()));
    array.append(chunk);
    all.insert(all.end(), chunk.begin(), chunk.end());
  }
  return all;
}

void expect_values(const SpillArray<int32_t>& array, const std::vector<int32_t>& expected) {
  ASSERT_EQ(array.size(), static_cast<int64_t>(expected.size()));
  std::vector<int32_t> all(expected.size());
  array.read(0, array.size(), all.data());
  EXPECT_TRUE(all == expected);
  for (size_t at = 0; at < expected.size(); at += 1 + at / 3)
    ASSERT_EQ(array[static_cast<int64_t>(at)], expected[at]);
}

TEST(SpillArray, ReadsBackWhatWasAppended) {
  for (const int64_t memory : {int64_t{1} << 30, int64_t{1} << 20, int64_t{1000}, int64_t{0}}) {
    for (const int count : {0, 1, 999, 300000}) {
      TemporaryFolder folder;
      {
        SpillArray<int32_t> array(folder / "inner" / "array", memory);
        const std::vector<int32_t> expected = filled(array, count);
        array.seal();
        EXPECT_EQ(array.spilled(),
                  memory < static_cast<int64_t>(sizeof(int32_t) * expected.size()));
        expect_values(array, expected);
        EXPECT_EQ(std::filesystem::exists(folder / "inner" / "array"), array.spilled());
      }
      EXPECT_FALSE(std::filesystem::exists(folder / "inner" / "array"));
    }
  }
}

TEST(SpillArray, AStoredArrayIsInItsFile) {
  for (const bool to_store : {false, true}) {
    for (const int64_t memory : {int64_t{1} << 30, int64_t{1} << 20, int64_t{0}}) {
      for (const int count : {0, 999, 300000}) {
        TemporaryFolder folder;
        SpillArray<int32_t> array(folder / "array", memory, to_store);
        const std::vector<int32_t> expected = filled(array, count);
        array.seal();
        array.store();
        expect_values(array, expected);
        const std::string bytes = testing::read_bytes(folder / "array");
        ASSERT_EQ(bytes.size(), sizeof(int32_t) * expected.size());
        EXPECT_TRUE(bytes.empty() || std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0);
        SpillArray<int32_t> adopted(folder / "array", memory);
        ASSERT_TRUE(adopted.adopt(array.size()));
        expect_values(adopted, expected);
      }
    }
  }
}

TEST(SpillArray, SaysWhereItCouldNotWrite) {
  TemporaryFolder folder;
  testing::write_bytes(folder / "file", "no folder");
  SpillArray<int32_t> array(folder / "file" / "array", 0);
  try {
    array.push_back(1);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find((folder / "file" / "array").string()),
              std::string::npos);
  }
}

/// Documents of sentences of ids just below vocab_size.
std::vector<std::vector<std::vector<int32_t>>> corpus(int32_t vocab_size) {
  std::vector<std::vector<std::vector<int32_t>>> documents(50);
  for (int d = 0; d < 50; ++d) {
    for (int s = 0; s <= d % 5; ++s)
      documents[static_cast<size_t>(d)].emplace_back(1 + (d * s) % 9, vocab_size - 1 - d * 10 - s);
  }
  return documents;
}

void expect_corpus(const DocumentSet& set,
                   const std::vector<std::vector<std::vector<int32_t>>>& documents) {
  ASSERT_EQ(set.documents(), static_cast<int64_t>(documents.size()));
  for (int64_t d = 0; d < set.documents(); ++d) {
    const auto& document = documents[static_cast<size_t>(d)];
    const auto sentences = static_cast<int64_t>(document.size());
    ASSERT_EQ(set.sentences_of(d), sentences);
    int64_t tokens = 0;
    for (const auto& sentence : document) tokens += static_cast<int64_t>(sentence.size());
    ASSERT_EQ(set.tokens_of(d), tokens);
    for (int64_t first = 0; first < sentences; ++first) {
      for (const int64_t wanted : {int64_t{-1}, int64_t{1}, int64_t{6}, DocumentSet::kAll}) {
        const SentenceRun run = set.read(d, first, wanted);
        int64_t found = 0, s = 0;
        do {
          ASSERT_LT(s, run.size());
          const auto& expected = document[static_cast<size_t>(first + s)];
          EXPECT_TRUE(std::equal(expected.begin(), expected.end(), run[s].begin(), run[s].end()));
          found += static_cast<int64_t>(expected.size());
          ++s;
        } while (found < wanted && first + s < sentences);
        EXPECT_EQ(run.size(), s);
      }
    }
  }
}

TEST(SpillArray, ACorpusReadsBackFromMemoryAndFiles) {
  for (const int32_t vocab_size : {65536, 65537}) {
    for (const int64_t memory : {int64_t{0}, int64_t{1} << 20}) {
      TemporaryFolder folder;
      const auto make = [&] { return DocumentSet(folder.path(), "corpus", memory, vocab_size); };
      DocumentSet set = make();
      for (const auto& document : corpus(vocab_size)) {
        set.begin_document();
        for (const auto& sentence : document) set.add_sentence(sentence);
      }
      set.seal();
      EXPECT_EQ(std::filesystem::exists(folder / "corpus-tokens.spill"), memory == 0);
      expect_corpus(set, corpus(vocab_size));
      set.store();
      expect_corpus(set, corpus(vocab_size));
      // Its process is killed: the files stay.
      const TemporaryFolder kept;
      std::filesystem::copy(folder.path(), kept.path());
      DocumentSet adopted(kept.path(), "corpus", memory, vocab_size);
      ASSERT_TRUE(adopted.adopt(set.documents(), set.sentences(), set.tokens()));
      expect_corpus(adopted, corpus(vocab_size));
      EXPECT_FALSE(make().adopt(set.documents(), set.sentences(), set.tokens() + 1));
    }
  }
}

}  // namespace
}  // namespace minibert
