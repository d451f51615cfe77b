// vocab_test.cpp: what a vocabulary file must be, and the errors if it is not.
#include "models/text/vocab.h"

#include <iterator>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/error.h"
#include "tests/models/text/tokenizer_golden.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using namespace minibert::testing;

const std::string kSpecial = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

std::filesystem::path write(const TemporaryFolder& folder, const std::string& contents) {
  write_bytes(folder / "vocab.txt", contents);
  return folder / "vocab.txt";
}

/// The message of the DataError that loading `contents` throws.
std::string fault_of(const std::string& contents) {
  const TemporaryFolder folder;
  return message_of<DataError>([&] { Vocab::load(write(folder, contents)); });
}

void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_TRUE(has(message, part)) << message << "\nlacks " << part;
}

TEST(Vocab, IdsAreLineNumbers) {
  const Vocab vocab = uncased_vocab();
  EXPECT_EQ(vocab.size(), 30522);
  EXPECT_EQ(vocab.pad_id(), 0);
  EXPECT_EQ(vocab.unk_id(), 100);
  EXPECT_EQ(vocab.cls_id(), 101);
  EXPECT_EQ(vocab.sep_id(), 102);
  EXPECT_EQ(vocab.mask_id(), 103);
  EXPECT_EQ(vocab.token(1996), "the");
  for (int32_t id = 0; id < vocab.size(); ++id) ASSERT_EQ(vocab.id(vocab.token(id)), id);
  EXPECT_EQ(vocab.id("nosuchtoken"), -1);
  EXPECT_EQ(vocab.id(""), -1);
}

TEST(Vocab, SpecialIdsAreThoseOfTheFiveTokens) {
  const Vocab vocab = uncased_vocab();
  int special = 0;
  for (int32_t id = -1; id <= vocab.size(); ++id) special += vocab.is_special(id);
  EXPECT_EQ(special, 5);
  EXPECT_TRUE(vocab.is_special(103));
}

TEST(Vocab, SavedFileIsTheLoadedOneByteForByte) {
  const TemporaryFolder folder;
  const auto copy = folder / "copy.txt";
  uncased_vocab().save(copy);
  EXPECT_EQ(read_bytes(copy), read_bytes(tokenizer_goldens() / "bert-base-uncased-vocab.txt"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "a temporary file was left";
}

TEST(Vocab, SavingIntoAMissingFolderIsADataError) {
  EXPECT_THROW(cased_vocab().save("/no/such/folder/vocab.txt"), DataError);
}

TEST(Vocab, SavingThroughALinkKeepsTheLink) {
  const TemporaryFolder folder;
  const std::filesystem::path link = folder / "link.txt";
  std::filesystem::create_symlink("target.txt", link);  // which is not there yet
  for (int round = 0; round < 2; ++round) {
    cased_vocab().save(link);
    EXPECT_TRUE(std::filesystem::is_symlink(link));
    EXPECT_EQ(Vocab::load(folder / "target.txt").hash(), cased_vocab().hash());
  }
  std::filesystem::create_symlink("circle.txt", folder / "circle.txt");
  EXPECT_THROW(cased_vocab().save(folder / "circle.txt"), DataError);
}

TEST(Vocab, SavingOverAPipeIsRefusedAndKeepsIt) {
  const TemporaryFolder folder;
  const std::filesystem::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  for (const char* name : {"pipe", "link"}) {
    EXPECT_THROW(cased_vocab().save(folder / name), DataError) << name;
    EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  }
}

TEST(Vocab, HashIsFnv1aOfTheCanonicalFile) {
  // FNV-1a of "[UNK]\n[CLS]\n[SEP]\n[MASK]\n" by a loop of its own.
  uint64_t expected = 0xcbf29ce484222325u;
  for (const char c : std::string("[UNK]\n[CLS]\n[SEP]\n[MASK]\n")) {
    expected ^= static_cast<uint8_t>(c);
    expected *= 0x100000001b3u;
  }
  EXPECT_EQ(Vocab::from_tokens({"[UNK]", "[CLS]", "[SEP]", "[MASK]"}, "test").hash(), expected);
}

TEST(Vocab, WindowsLineEndsAndBlankTailAreAccepted) {
  const TemporaryFolder folder;
  const Vocab vocab = Vocab::load(write(folder, "[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK] \r\nlast\n\n"));
  EXPECT_EQ(vocab.size(), 5);
  EXPECT_EQ(vocab.token(0), "[UNK]");
  EXPECT_EQ(vocab.id("last"), 4);
  EXPECT_EQ(vocab.pad_id(), -1);
}

// To `tokenizers` 0.23.3 and Transformers 5.23 the first token is "\uFEFF[UNK]": peer_folders.
TEST(Vocab, RefusesAByteOrderMark) {
  expect_parts(fault_of("\xEF\xBB\xBF" + kSpecial), {"vocab.txt", "byte order mark", "sed -i"});
}

TEST(Vocab, RejectsAFileWithoutASpecialToken) {
  for (const std::string token : {"[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    std::string contents = kSpecial + "a\n";
    contents.replace(contents.find(token), token.size(), "x");
    expect_parts(fault_of(contents), {"vocab.txt", token + " is missing", "6 lines"});
  }
}

TEST(Vocab, NamesAllSpecialTokensThatAreMissing) {
  expect_parts(fault_of("[UNK]\na\n"), {"[CLS], [SEP], [MASK] is missing from 2 lines"});
}

// What `tokenizers` 0.23.3 says of this file: WordPiece("vocab.txt").
TEST(Vocab, OfATokenThatIsThereTwiceTheLastLineIsItsId) {
  const TemporaryFolder folder;
  const Vocab vocab =
      Vocab::load(write(folder, kSpecial + "a\n\nb\na\xC2\xA0\n\n\xE2\x80\xA8\nc\nc\n\n"));
  EXPECT_EQ(vocab.id("a"), 8);
  EXPECT_EQ(vocab.id("b"), 7);
  EXPECT_EQ(vocab.id("c"), 12);
  EXPECT_EQ(vocab.id(""), -1);
  EXPECT_EQ(vocab.token(5), "a");
  EXPECT_EQ(vocab.token(6), "");
  EXPECT_EQ(vocab.size(), 13);
  EXPECT_EQ(vocab.distinct(), 9);  // the five, a, b, c and the blank one
  EXPECT_EQ(vocab.pieces().size(), 8u);
}

TEST(Vocab, AddedTokensHaveIdsButAreNoPieces) {
  Vocab vocab = Vocab::from_tokens({"[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"}, "test");
  const uint64_t hash = vocab.hash();
  vocab.add("a", 4, /* listed= */ true);  // it is there
  EXPECT_EQ(vocab.hash(), hash);
  vocab.add("[PAD]", 6, /* listed= */ false);
  EXPECT_EQ(vocab.size(), 5);
  EXPECT_EQ(vocab.id("[PAD]"), 6);
  EXPECT_EQ(vocab.token(6), "[PAD]");
  EXPECT_EQ(vocab.hash(), hash);
  vocab.add("[E1]", 5, /* listed= */ true);
  EXPECT_EQ(vocab.size(), 6);
  EXPECT_EQ(vocab.text(), "[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n[E1]\n");
  EXPECT_EQ(vocab.pieces().size(), 5u);
}

TEST(Vocab, FromEntriesKeepsIdsAndRefusesOneOfTwoTokens) {
  Vocab vocab =
      Vocab::from_entries({{"b", 6}, {"[UNK]", 0}, {"<s>", 1}, {"</s>", 2}, {"<m>", 3}}, "test");
  vocab.set_special({"", "[UNK]", "<s>", "</s>", "<m>"}, "test");
  EXPECT_EQ(vocab.size(), 7);
  EXPECT_EQ(vocab.token(5), "");
  EXPECT_EQ(vocab.mask_id(), 3);
  EXPECT_EQ(vocab.distinct(), 5);
  expect_parts(message_of<DataError>([] {
                 Vocab::from_entries({{"a", 0}, {"b", 0}}, "x.json");
               }),
               {"x.json", "'a' and 'b' both have id 0"});
  expect_parts(message_of<DataError>([] {
                 Vocab::from_entries({{"a", -1}}, "x.json");
               }),
               {"'a' has id -1"});
  EXPECT_EQ(Vocab::from_entries({{"a", 1 << 20}}, "x.json").size(), (1 << 20) + 1);
  expect_parts(message_of<DataError>([] {
                 Vocab::from_entries({{"a", (1 << 20) + 1}}, "x.json");
               }),
               {"'a' has id 1048577, expected 0 to 1048576 for 1 tokens"});
}

TEST(Vocab, RejectsEmptyFilesAndBadBytes) {
  expect_parts(fault_of(""), {"vocab.txt", "empty"});
  expect_parts(fault_of("\n\n"), {"vocab.txt", "empty"});
  expect_parts(fault_of(kSpecial + "\xC3(\n"), {"vocab.txt", "line 6", "UTF-8"});
}

TEST(Vocab, RejectsAMissingFileAndAFolder) {
  const TemporaryFolder folder;
  EXPECT_THROW(Vocab::load(folder / "none.txt"), DataError);
  EXPECT_THROW(Vocab::load(folder.path()), DataError);
}

TEST(Vocab, RejectsIdsBeyondTheEnd) {
  const Vocab vocab = cased_vocab();
  EXPECT_THROW(vocab.token(-1), UsageError);
  EXPECT_THROW(vocab.token(vocab.size()), UsageError);
}

}  // namespace
}  // namespace minibert
