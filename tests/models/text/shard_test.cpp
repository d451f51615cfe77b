// shard_test.cpp: what is written comes back; every flipped byte and every cut is noticed, by name.
#include "models/text/shard.h"

#include <algorithm>
#include <cstring>

#include <sys/stat.h>
#include <zlib.h>

#include "core/error.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using testing::FixtureOptions;
using testing::read_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

bool operator==(const StoredExample& a, const StoredExample& b) {
  return a.example.ids == b.example.ids && a.example.first_segment == b.example.first_segment &&
         a.example.nsp_label == b.example.nsp_label && a.masked_positions == b.masked_positions &&
         a.masked_labels == b.masked_labels;
}

class Shard : public ::testing::Test {
 protected:
  std::filesystem::path write(const FixtureOptions& options) {
    const auto path = folder_ / "shard.mbs";
    ShardWriter writer(
        path, {options.vocab_size, options.sequence_length, !options.dynamic, options.nsp});
    for (int64_t e = 0; e < options.examples; ++e) writer.add(testing::fixture_stored(e, options));
    result_ = writer.finish();
    return path;
  }
  /// The error of reading everything; "" if there is none.
  std::string error_of(const std::filesystem::path& path) {
    try {
      const ShardReader reader(path);
      for (int64_t e = 0; e < reader.examples(); ++e) reader.read(e);
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
  ShardWriter::Result result_;
};

TEST_F(Shard, GivesBackWhatWasWritten) {
  for (const int32_t vocab_size : {100, 65536, 65537, 200000}) {  // ids of 2 and of 4 bytes
    for (const bool dynamic : {false, true}) {
      for (const int64_t examples : {0, 1, 37}) {
        const FixtureOptions options{
            .examples = examples, .vocab_size = vocab_size, .dynamic = dynamic};
        const ShardReader reader(write(options));
        EXPECT_EQ(reader.traits(), (ShardTraits{vocab_size, 24, !dynamic, true}));
        ASSERT_EQ(reader.examples(), examples);
        for (int64_t e = 0; e < examples; ++e) {
          EXPECT_TRUE(reader.read(e) == testing::fixture_stored(e, options)) << e;
          EXPECT_EQ(reader.length(e), static_cast<int32_t>(reader.read(e).example.ids.size()));
        }
        const std::string bytes = read_bytes(reader.path());
        EXPECT_EQ(static_cast<int64_t>(bytes.size()), result_.bytes);
        EXPECT_EQ(result_.crc32, ::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()),
                                         static_cast<uInt>(bytes.size())));
        EXPECT_EQ(reader.crc32(), result_.crc32);
      }
    }
  }
}

TEST_F(Shard, WritesMoreThanItsBufferHolds) {
  const FixtureOptions options{.examples = 20000};
  const ShardReader reader(write(options));
  EXPECT_GT(reader.bytes(), 1 << 20);
  for (const int64_t e : {0, 1, 9999, 19999}) {
    EXPECT_TRUE(reader.read(e) == testing::fixture_stored(e, options));
  }
  EXPECT_EQ(reader.crc32(), result_.crc32);
}

TEST_F(Shard, NoticesEveryFlippedByte) {
  const auto path = write({.examples = 12});
  const std::string good = read_bytes(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write_bytes(path, bad);
    EXPECT_NE(error_of(path), "") << "byte " << i << " of " << good.size();
  }
}

TEST_F(Shard, NoticesEveryCutAndEveryTail) {
  const auto path = write({.examples = 12});
  const std::string good = read_bytes(path);
  for (size_t size = 0; size < good.size(); ++size) {
    write_bytes(path, good.substr(0, size));
    EXPECT_NE(error_of(path), "") << "cut to " << size;
  }
  write_bytes(path, good + '\0');
  EXPECT_NE(error_of(path), "");
  write_bytes(path, good);
  EXPECT_EQ(error_of(path), "");
}

TEST_F(Shard, SaysWhatIsWrong) {
  const auto path = write({});
  const std::string good = read_bytes(path);
  EXPECT_NE(error_of(folder_ / "missing.mbs").find("cannot be opened"), std::string::npos);
  write_bytes(path, "some text that is longer than the sixty-four bytes of a shard's header");
  EXPECT_NE(error_of(path).find("expected a shard"), std::string::npos);
  write_bytes(path, good.substr(0, good.size() - 5));
  EXPECT_NE(error_of(path).find("expected " + std::to_string(good.size())), std::string::npos);

  // Another version with a good checksum: not damage, but a format that is not ours.
  std::string newer = good;
  newer[8] = 2;
  const auto crc =
      static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(newer.data()), 60));
  std::memcpy(newer.data() + 60, &crc, sizeof crc);
  write_bytes(path, newer);
  EXPECT_NE(error_of(path).find("format version is 2, expected 1"), std::string::npos)
      << error_of(path);
}

// A file whose checksums are right but whose numbers are not must not get into a model.
TEST_F(Shard, RejectsIdsBeyondTheVocabulary) {
  FixtureOptions options{.examples = 1};
  StoredExample bad = testing::fixture_stored(0, options);
  bad.example.ids[1] = 100;
  const auto path = folder_ / "bad.mbs";
  ShardWriter writer(path, {100, 24, true, true});
  writer.add(bad);
  writer.finish();
  EXPECT_NE(error_of(path).find("out of range"), std::string::npos);
}

// Offsets of the header are those of shard.h.
TEST_F(Shard, RejectsNumbersOfTheHeaderThatNoBuildWrites) {
  const auto path = write({});
  const std::string good = read_bytes(path);
  const auto with = [&](size_t offset, auto value) {
    std::string bad = good;
    std::memcpy(bad.data() + offset, &value, sizeof value);
    const auto crc =
        static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(bad.data()), 60));
    std::memcpy(bad.data() + 60, &crc, sizeof crc);
    write_bytes(path, bad);
    return error_of(path);
  };
  EXPECT_EQ(with(32, uint64_t{37}), "");
  // 8 bytes an example: the product overflows, and would agree with the index.
  EXPECT_NE(with(32, (uint64_t{1} << 61) + 37).find("examples"), std::string::npos);
  EXPECT_NE(with(32, ~uint64_t{0}).find("examples"), std::string::npos);
  EXPECT_NE(with(16, uint32_t{64}).find("ids of 64 bytes"), std::string::npos);
  EXPECT_NE(with(12, ~uint32_t{0}).find("ids"), std::string::npos);
  EXPECT_NE(with(24, ~uint32_t{0}).find("tokens a sequence"), std::string::npos);
}

// A label is a column of the model's output.
TEST_F(Shard, RejectsOtherLabelsThanThree) {
  for (const int8_t label : {int8_t{-2}, int8_t{2}, int8_t{127}}) {
    StoredExample bad = testing::fixture_stored(0, {});
    bad.example.nsp_label = label;
    const auto path = folder_ / "bad.mbs";
    ShardWriter writer(path, {100, 24, true, true});
    writer.add(bad);
    writer.finish();
    EXPECT_NE(error_of(path).find("out of range"), std::string::npos) << int{label};
  }
}

TEST_F(Shard, APipeIsNoShardAndIsNotWaitedFor) {
  const auto path = folder_ / "shard.mbs";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_NE(error_of(path).find("expected a shard"), std::string::npos);
}

TEST_F(Shard, AppearsOnlyWhenFinished) {
  const auto path = folder_ / "shard.mbs";
  {
    ShardWriter writer(path, {100, 24, true, true});
    writer.add(testing::fixture_stored(0, {}));
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  EXPECT_THROW(ShardWriter(folder_ / "no" / "folder.mbs", {100, 24, true, true}), DataError);
}

}  // namespace
}  // namespace minibert
