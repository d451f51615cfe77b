// event_file.cpp: records and the few fields of the messages in them, written and read.
#include "models/training/event_file.h"

#include <array>
#include <bit>
#include <cstring>
#include <optional>

namespace minibert {
namespace {

static_assert(std::endian::native == std::endian::little, "event files are little-endian");

enum WireType : uint64_t { kVarint = 0, kEightBytes = 1, kBytes = 2, kFourBytes = 5 };

constexpr std::array<uint32_t, 256> crc_table() {
  constexpr uint32_t kReversedPolynomial = 0x82F63B78;
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kReversedPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}

uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

// ---- Writing -----------------------------------------------------------------------------------

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(uint64_t field, WireType type) {
  return varint(field * 8 + type);
}

std::string bytes_field(uint64_t field, std::string_view bytes) {
  return key(field, kBytes) + varint(bytes.size()) + std::string(bytes);
}

std::string record(const std::string& message) {
  const std::string length = raw<uint64_t>(message.size());
  return length + raw(masked(crc32c(length))) + message + raw(masked(crc32c(message)));
}

std::string event_head(double wall_time, int64_t step) {
  return key(1, kEightBytes) + raw(wall_time) + key(2, kVarint) +
         varint(static_cast<uint64_t>(step));
}

// ---- Reading -----------------------------------------------------------------------------------

/// The fields of a message, one after another.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  /// False at the end of the message, or where it can't be understood.
  bool next() {
    const std::optional<uint64_t> head = take_varint();
    number_ = 0;
    bytes_ = {};
    if (!head) return false;
    field_ = *head / 8;
    switch (*head % 8) {
      case kVarint: {
        const std::optional<uint64_t> value = take_varint();
        number_ = value.value_or(0);
        return value.has_value();
      }
      case kEightBytes:
        return take(8);
      case kFourBytes:
        return take(4);
      case kBytes: {
        const std::optional<uint64_t> length = take_varint();
        return length && take(*length);
      }
      default:
        return false;
    }
  }
  uint64_t field() const { return field_; }
  uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }
  template <typename T>
  T value() const {
    T result{};
    if (!bytes_.empty())
      std::memcpy(&result, bytes_.data(), std::min(sizeof result, bytes_.size()));
    return result;
  }

 private:
  std::optional<uint64_t> take_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }
  bool take(uint64_t length) {
    if (length > rest_.size()) return false;
    bytes_ = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

  std::string_view rest_, bytes_;
  uint64_t field_ = 0, number_ = 0;
};

std::pair<std::string, float> parse_value(std::string_view message) {
  std::pair<std::string, float> scalar;
  for (FieldReader value(message); value.next();) {
    if (value.field() == 1) scalar.first = value.bytes();
    if (value.field() == 2) scalar.second = value.value<float>();
  }
  return scalar;
}

ScalarEvent parse_event(std::string_view message) {
  ScalarEvent event;
  for (FieldReader field(message); field.next();) {
    if (field.field() == 1) event.wall_time = field.value<double>();
    if (field.field() == 2) event.step = static_cast<int64_t>(field.number());
    if (field.field() != 5) continue;
    for (FieldReader value(field.bytes()); value.next();)
      if (value.field() == 1) event.scalars.push_back(parse_value(value.bytes()));
  }
  return event;
}

/// The message of the record at the beginning of `bytes`, if it is whole.
std::optional<std::string_view> message_of(std::string_view bytes) {
  constexpr size_t kHead = 12, kSum = 4;
  const auto sum_at = [&](size_t offset) {
    uint32_t sum = 0;
    std::memcpy(&sum, bytes.data() + offset, sizeof sum);
    return sum;
  };
  if (bytes.size() < kHead + kSum) return std::nullopt;
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (sum_at(8) != masked(crc32c(bytes.substr(0, 8)))) return std::nullopt;
  if (length > bytes.size() - kHead - kSum) return std::nullopt;
  const std::string_view message = bytes.substr(kHead, length);
  if (sum_at(kHead + length) != masked(crc32c(message))) return std::nullopt;
  return message;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0U;
  for (const char byte : bytes) crc = kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff] ^ crc >> 8;
  return ~crc;
}

std::string version_record(double wall_time) {
  return record(key(1, kEightBytes) + raw(wall_time) + bytes_field(3, "brain.Event:2"));
}

std::string start_record(double wall_time, int64_t step) {
  const std::string start = key(1, kVarint) + varint(1);
  return record(event_head(wall_time, step) + bytes_field(7, start));
}

std::string scalar_record(const ScalarEvent& event) {
  std::string values;
  for (const auto& [tag, value] : event.scalars)
    values += bytes_field(1, bytes_field(1, tag) + key(2, kFourBytes) + raw(value));
  return record(event_head(event.wall_time, event.step) + bytes_field(5, values));
}

std::vector<EventRecord> read_events(std::string_view bytes) {
  std::vector<EventRecord> records;
  for (size_t at = 0; const auto message = message_of(bytes.substr(at));) {
    at += 16 + message->size();
    records.push_back({at, parse_event(*message)});
  }
  return records;
}

}  // namespace minibert
