// spill_array_test.cpp: an array reads back what was appended, from memory and from its file, and
// so does a corpus of documents. Expected values: the numbers that were appended.
#include "models/text/spill_array.h"

#include <numeric>

#include "core/error.h"
#include "models/text/document_set.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;

TEST(SpillArray, ReadsBackWhatWasAppended) {
  for (const int64_t memory : {int64_t{1} << 30, int64_t{1} << 20, int64_t{1000}, int64_t{0}}) {
    for (const int count : {0, 1, 999, 300000}) {
      TemporaryFolder folder;
      {
        SpillArray<int32_t> array(folder / "inner" / "array", memory);
        std::vector<int32_t> chunk(7);
        std::vector<int32_t> expected;
        while (static_cast<int>(expected.size()) < count) {
          std::iota(chunk.begin(), chunk.end(), static_cast<int32_t>(expected.size()));
          array.append(chunk);
          expected.insert(expected.end(), chunk.begin(), chunk.end());
        }
        array.seal();
        EXPECT_EQ(array.spilled(),
                  !expected.empty() && memory < static_cast<int64_t>(8 * expected.size()));
        ASSERT_EQ(array.size(), static_cast<int64_t>(expected.size()));
        array.forget();
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), array.data()));
        EXPECT_EQ(std::filesystem::exists(folder / "inner" / "array"), array.spilled());
      }
      EXPECT_FALSE(std::filesystem::exists(folder / "inner" / "array"));
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

TEST(SpillArray, ACorpusInFilesIsTheCorpusInMemory) {
  TemporaryFolder folder;
  DocumentSet memory, files(folder.path(), "corpus", /* memory= */ 0);
  for (DocumentSet* set : {&memory, &files}) {
    for (int d = 0; d < 50; ++d) {
      set->begin_document();
      for (int s = 0; s <= d % 5; ++s)
        set->add_sentence(std::vector<int32_t>(static_cast<size_t>(1 + (d * s) % 9), d * 10 + s));
    }
    set->seal();
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "corpus-tokens.spill"));
  ASSERT_EQ(files.documents(), 50);
  ASSERT_EQ(files.tokens(), memory.tokens());
  for (int64_t d = 0; d < 50; ++d) {
    ASSERT_EQ(files.sentences_of(d), 1 + d % 5);
    ASSERT_EQ(files.tokens_of(d), memory.tokens_of(d));
    files.forget();
    for (int64_t s = 0; s < files.sentences_of(d); ++s) {
      const auto a = files.sentence(d, s), b = memory.sentence(d, s);
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
      EXPECT_EQ(a[0], d * 10 + s);
    }
  }
}

}  // namespace
}  // namespace minibert
