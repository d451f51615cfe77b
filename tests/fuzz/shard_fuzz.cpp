// shard_fuzz.cpp: one shard of examples. The mutator makes all checksums right again, of records,
// index and header, else nothing behind them would be reached. Reader: models/text/shard.h, which
// has the format.
#include "models/text/checksum.h"
#include "models/text/shard.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

constexpr size_t kHeader = 64, kIndexOffset = 40, kFileBytes = 48, kIndexCrc = 56, kHeaderCrc = 60;

/// Right checksums and length, wherever the header says that the index is.
void repair(std::string& bytes) {
  if (bytes.size() < kHeader) return;
  put<uint64_t>(bytes, kFileBytes, bytes.size());
  const auto index = get<uint64_t>(bytes, kIndexOffset);
  if (index <= bytes.size()) {
    for (size_t at = index; at + 16 <= bytes.size(); at += 8) {
      const auto begin = get<uint64_t>(bytes, at), end = get<uint64_t>(bytes, at + 8);
      if (begin < kHeader || begin > index || end > index || end < begin + 12) continue;
      put(bytes, begin, crc32_of(bytes.data() + begin + 4, end - begin - 4));
    }
    put(bytes, kIndexCrc, crc32_of(bytes.data() + index, bytes.size() - index));
  }
  put(bytes, kHeaderCrc, crc32_of(bytes.data(), kHeaderCrc));
}

std::string shard_of(int examples, const ShardTraits& traits) {
  const auto path = folder() / "seed.mbs";
  ShardWriter writer(path, traits);
  for (int i = 0; i < examples; ++i) {
    StoredExample stored{
        {{2, 7, 3, 9, 3}, 3, static_cast<int8_t>(traits.nsp ? i % 2 : -1)}, {}, {}};
    if (traits.masked) stored.masked_positions = {1, 3}, stored.masked_labels = {8, i};
    writer.add(stored);
  }
  writer.finish();
  std::string bytes = read(path);
  std::filesystem::remove(path);
  return bytes;
}

}  // namespace

void fuzz(std::string_view input) {
  const auto path = write("shard.mbs", input);
  succeeds([&] {
    const ShardReader reader(path);
    claim(reader.bytes() == static_cast<int64_t>(input.size()), "the file is as long as it is");
    claim(reader.examples() * 8 < reader.bytes(), "each example has its place in the index");
    reader.crc32();
    succeeds([&] { reader.identity(); });
    for (int64_t e = 0; e < reader.examples(); ++e) {
      succeeds([&] {
        const StoredExample stored = reader.read(e);
        claim(reader.length(e) == static_cast<int32_t>(stored.example.ids.size()), "lengths agree");
        claim(reader.masked(e) == static_cast<int32_t>(stored.masked_positions.size()),
              "masks agree");
        for (const int32_t id : stored.example.ids)
          claim(id >= 0 && id < reader.traits().vocab_size, "ids are in the vocabulary");
        for (const int32_t p : stored.masked_positions)
          claim(p >= 0 && p < reader.length(e), "positions are in the example");
      });
    }
  });
}

std::vector<std::string> seeds() {
  return {shard_of(3, {100, 8, true, true}), shard_of(2, {70000, 8, false, true}),
          shard_of(2, {100, 8, true, false}), shard_of(0, {100, 8, false, false})};
}

}  // namespace minibert::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  using namespace minibert::fuzz;
  return mutate(data, size, max_size, [&](const std::string& bytes, size_t room) {
    std::string changed = mutated(bytes, room);
    if (seed % 16 != 0) repair(changed);
    return changed;
  });
}
