// event_file_test.cpp: checksums against RFC 3720, records against bytes that TensorFlow writes, and
// files cut or damaged anywhere.
#include "models/training/event_file.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

TEST(EventFile, ChecksumIsThatOfTheRfc) {
  std::string counting;
  for (int i = 0; i < 32; ++i) counting += static_cast<char>(i);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(counting), 0x46dd794eu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

std::string hexadecimal(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return text;
}

// Written by tensorboard 2.20.0: RecordWriter.write(Event(...).SerializeToString()).
TEST(EventFile, RecordsAreTensorBoardsBytes) {
  EXPECT_EQ(hexadecimal(version_record(1.5)),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  EXPECT_EQ(hexadecimal(start_record(1.5, 300)),
            "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a");
  EXPECT_EQ(hexadecimal(scalar_record({1.5, 300, {{"train/loss", 7.25F}, {"eval/a b", -1.0F}}})),
            "3200000000000000241956ec09000000000000f83f10ac022a240a110a0a747261696e2f6c6f7373"
            "150000e8400a0f0a086576616c2f61206215000080bfabbfaff3");
}

TEST(EventFile, ReadsBackWhatItWrote) {
  const ScalarEvent first{2.5, 1, {{"a", 1.0F}, {"b", -0.0F}}},
      second{3.5, 1LL << 40, {{"a", 7.0F}}};
  const std::string bytes =
      version_record(1) + start_record(1, 1) + scalar_record(first) + scalar_record(second);
  const std::vector<EventRecord> records = read_events(bytes);
  ASSERT_EQ(records.size(), 4u);
  EXPECT_TRUE(records[0].event.scalars.empty());
  EXPECT_EQ(records[1].event.step, 1);
  EXPECT_EQ(records[2].event, first);
  EXPECT_EQ(records[3].event, second);
  EXPECT_EQ(records[3].end, bytes.size());
}

TEST(EventFile, CutAnywhereTheWholeRecordsRemain) {
  std::string bytes;
  std::vector<size_t> ends;
  for (int step = 1; step <= 3; ++step) {
    bytes += scalar_record({1.0 * step, step, {{"loss", 2.0F}}});
    ends.push_back(bytes.size());
  }
  for (size_t length = 0; length <= bytes.size(); ++length) {
    const auto whole = static_cast<size_t>(
        std::count_if(ends.begin(), ends.end(), [&](size_t end) { return end <= length; }));
    ASSERT_EQ(read_events(bytes.substr(0, length)).size(), whole) << "cut to " << length;
  }
}

TEST(EventFile, ADamagedByteEndsTheReading) {
  std::string bytes;
  for (int step = 1; step <= 3; ++step)
    bytes += scalar_record({1.0 * step, step, {{"loss", 2.0F}}});
  const size_t one = bytes.size() / 3;
  for (size_t at = one; at < 2 * one; ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    ASSERT_EQ(read_events(damaged).size(), 1u) << "byte " << at;
  }
}

// Field 1 is a double; here it comes as a varint, too, before and after one of eight bytes.
TEST(EventFile, AFieldOfAnotherTypeHasNoBytesOfTheOneBefore) {
  const auto raw = [](auto value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto masked = [](const std::string& bytes) {  // event_file.h
    const uint32_t crc = crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
  };
  const std::string varint("\x08\x01", 2), eight_bytes = "\x19" + raw(7.5), step("\x10\x05", 2);
  for (const std::string& message : {varint + step, eight_bytes + varint + step}) {
    const std::string length = raw(uint64_t{message.size()});
    const auto records = read_events(length + raw(masked(length)) + message + raw(masked(message)));
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].event.wall_time, 0);
    EXPECT_EQ(records[0].event.step, 5);
  }
}

}  // namespace
}  // namespace minibert
