// manifest_test.cpp: manifest.json and unigram.bin come back as written; damaged, missing or
// mismatched folders are refused with the file's name.
#include "models/text/manifest.h"

#include <functional>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using nlohmann::json;
using testing::read_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

/// Every field different from its default.
Manifest filled() {
  Manifest m;
  m.settings.documents = {TextFormat::paragraphs, "^A \"b\"\\d", true};
  m.settings.cased = true;
  m.settings.examples = {77, 0.25, false};
  m.settings.masking = {0.3, 7, true};
  m.settings.dynamic_masking = true;
  m.settings.duplicate_factor = 9;
  m.settings.seed = 0xFFFFFFFFFFFFFFFFull;
  m.settings.hold_out_every = 10;
  m.held_out = true;
  m.vocabulary_hash = "00ff00ff00ff00ff";
  m.tokens = {1234, 5, 6, 7, 8, {}};
  m.sources = {{"a b.txt", 10, 0xFFFFFFFF, 20, /* utf16= */ false, 3, 2, 1, 4, 5}};
  m.sources[0].invalid_in_runs = 16;
  m.shards = {{"shard-00000.mbs", 11, 12, 13}, {"shard-00001.mbs", 14, 15, 0xABCDEF01}};
  m.counts = {1, 2, 3, 4, 5, 6, 7, 8, 9, {0, 1, 2}};
  m.unigram_source = "elsewhere";
  return m;
}

TEST(ManifestFile, ComesBackAsWritten) {
  TemporaryFolder folder;
  write_manifest(folder.path(), filled());
  const Manifest m = read_manifest(folder.path());
  EXPECT_EQ(to_json(m), to_json(filled()));
  EXPECT_EQ(m.settings.seed, 0xFFFFFFFFFFFFFFFFull);
  EXPECT_EQ(m.settings.documents.document_break, "^A \"b\"\\d");
  EXPECT_EQ(m.settings.documents.format, TextFormat::paragraphs);
  EXPECT_TRUE(m.settings.documents.keep_front_matter);
  EXPECT_TRUE(m.settings.cased);
  EXPECT_EQ(m.settings.examples.sequence_length, 77);
  EXPECT_EQ(m.settings.examples.short_sequence_prob, 0.25);
  EXPECT_FALSE(m.settings.examples.nsp);
  EXPECT_EQ(m.settings.masking.masked_lm_prob, 0.3);
  EXPECT_EQ(m.settings.masking.max_predictions, 7);
  EXPECT_TRUE(m.settings.masking.whole_word);
  EXPECT_TRUE(m.settings.dynamic_masking);
  EXPECT_TRUE(m.held_out);
  EXPECT_EQ(m.tokens.mask, 7);
  EXPECT_EQ(m.tokens.unk, 8);
  EXPECT_EQ(m.shards[1].crc32, 0xABCDEF01u);
  EXPECT_EQ(m.sources[0].crc32, 0xFFFFFFFFu);
  EXPECT_EQ(m.sources[0].invalid_in_runs, 16);
  EXPECT_EQ(m.counts.length_histogram, (std::vector<int64_t>{0, 1, 2}));
}

std::string error_of(const std::filesystem::path& folder, const ExpectedData& expected = {}) {
  try {
    ShardSet::open(folder, expected);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

class ShardFolder : public ::testing::Test {
 protected:
  ShardFolder() { testing::write_fixture(folder_.path()); }
  void change(const std::function<void(json&)>& edit) {
    json manifest = json::parse(read_bytes(folder_ / "manifest.json"));
    edit(manifest);
    write_bytes(folder_ / "manifest.json", manifest.dump());
  }
  TemporaryFolder folder_;
};

TEST_F(ShardFolder, Opens) {
  const auto set = ShardSet::open(folder_.path(), {100, "0123456789abcdef"});
  EXPECT_EQ(set->examples(), 37);
  for (const int64_t e : {0, 9, 10, 29, 30, 36}) {  // both sides of each shard's border
    EXPECT_EQ(set->read(e).example.ids, testing::fixture_stored(e, {}).example.ids);
    EXPECT_EQ(set->length(e), static_cast<int32_t>(set->read(e).example.ids.size()));
  }
}

TEST_F(ShardFolder, RefusesAnotherVocabulary) {
  EXPECT_NE(error_of(folder_.path(), {200, {}}).find("100 entries, expected 200"),
            std::string::npos);
  EXPECT_NE(error_of(folder_.path(), {100, "other"}).find("expected other"), std::string::npos);
  change([](json& m) { m["vocabulary"]["size"] = 101; });
  EXPECT_NE(error_of(folder_.path()).find("100 entries, expected 101"), std::string::npos);
}

TEST_F(ShardFolder, RefusesAManifestThatIsDamaged) {
  const std::string path = (folder_ / "manifest.json").string();
  const std::string good = read_bytes(path);
  for (size_t size = 0; size < good.size() - 2; size += 7) {
    write_bytes(path, good.substr(0, size));
    EXPECT_NE(error_of(folder_.path()).find(path), std::string::npos) << size;
  }
  for (const char* field : {"settings", "vocabulary", "shards", "counts", "sources", "held_out"}) {
    write_bytes(path, good);
    change([&](json& m) { m.erase(field); });
    EXPECT_NE(error_of(folder_.path()).find(field), std::string::npos) << field;
    write_bytes(path, good);
    change([&](json& m) { m[field] = "text"; });
    EXPECT_NE(error_of(folder_.path()), "") << field;
  }
  write_bytes(path, good);
  change([](json& m) { m["shards"][0]["crc32"] = "none"; });
  EXPECT_NE(error_of(folder_.path()), "");
  write_bytes(path, good);
  change([](json& m) { m["format_version"] = 2; });
  EXPECT_NE(error_of(folder_.path()).find("version is 2, expected 1"), std::string::npos);
  write_bytes(path, good);
  change([](json& m) { m["format_version"] = 5e90; });  // found by tests/fuzz: no int holds it
  EXPECT_NE(error_of(folder_.path()).find("version is 5e+90, expected 1"), std::string::npos);
  write_bytes(path, good);
  change([](json& m) { m["settings"]["format"] = "foo"; });
  EXPECT_NE(error_of(folder_.path()).find(path), std::string::npos);
  EXPECT_NE(error_of(folder_.path()).find("foo"), std::string::npos);
  // Fractions, rows that no model has, amounts of memory that no data need.
  const std::pair<const char*, json> wrong[] = {{"/settings/seed", -1e300},
                                                {"/settings/max_predictions", 1e300},
                                                {"/settings/max_predictions", -1},
                                                {"/settings/masked_lm_prob", 1e300},
                                                {"/settings/sequence_length", -1},
                                                {"/settings/sequence_length", 2147483647},
                                                {"/vocabulary/[MASK]", 100},
                                                {"/vocabulary/[CLS]", -1},
                                                {"/vocabulary/size", 1 << 25},
                                                {"/shards/0/examples", 0.5},
                                                {"/counts/length_histogram/0", 0.5},
                                                {"/vocabulary/size", 4294967396},  // 2^32 + 100
                                                {"/settings/max_predictions", 4294967296},
                                                {"/counts/tokens", uint64_t{1} << 63}};
  for (const auto& [place, value] : wrong) {
    write_bytes(path, good);
    change([&place = place, &value = value](json& m) { m[json::json_pointer(place)] = value; });
    const std::string error = error_of(folder_.path());
    EXPECT_NE(error.find("manifest.json: is damaged ("), std::string::npos) << place << error;
    EXPECT_NE(error.find(", expected "), std::string::npos) << place << error;
  }
  write_bytes(path, "[]");
  EXPECT_NE(error_of(folder_.path()), "");
  std::filesystem::remove(path);
  EXPECT_NE(error_of(folder_.path()).find("is missing"), std::string::npos);
}

TEST_F(ShardFolder, RefusesShardsThatDontMatch) {
  const std::string good = read_bytes(folder_ / "manifest.json");
  std::filesystem::copy(folder_ / "shard-3.mbs", folder_ / "shard-0.mbs",
                        std::filesystem::copy_options::overwrite_existing);  // 7 examples, not 10
  EXPECT_NE(error_of(folder_.path()).find("shard-0.mbs"), std::string::npos);
  std::filesystem::remove(folder_ / "shard-0.mbs");
  EXPECT_NE(error_of(folder_.path()).find("shard-0.mbs"), std::string::npos);
  change([](json& m) { m["shards"] = json::array(); });
  EXPECT_NE(error_of(folder_.path()).find("no examples"), std::string::npos);
  write_bytes(folder_ / "manifest.json", good);
  change([](json& m) { m["settings"]["masking"] = "dynamic"; });
  EXPECT_NE(error_of(folder_.path()), "");
}

TEST_F(ShardFolder, UnigramCountsComeBackOrAreRefused) {
  std::vector<uint64_t> counts(100);
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = i << 33;
  write_unigram_counts(folder_.path(), counts);
  EXPECT_EQ(read_unigram_counts(folder_.path(), 100), counts);
  EXPECT_THROW(read_unigram_counts(folder_.path(), 99), DataError);
  const std::string good = read_bytes(folder_ / "unigram.bin");
  for (size_t i = 0; i < good.size(); i += 3) {
    std::string bad = good;
    bad[i] ^= 16;
    write_bytes(folder_ / "unigram.bin", bad);
    EXPECT_THROW(read_unigram_counts(folder_.path(), 100), DataError) << i;
    write_bytes(folder_ / "unigram.bin", good.substr(0, i));
    EXPECT_THROW(read_unigram_counts(folder_.path(), 100), DataError) << i;
  }
  std::filesystem::remove(folder_ / "unigram.bin");
  EXPECT_THROW(read_unigram_counts(folder_.path(), 100), DataError);
}

}  // namespace
}  // namespace minibert
