// frames.cpp: writing and reading frames.
#include "dist/frames.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/error.h"

namespace minibert {
namespace {

constexpr std::string_view kMark = "MBr1";
constexpr size_t kHead = 8;  // mark and length

void append_length(std::string& to, size_t length) {
  for (int i = 0; i < 4; ++i) to += static_cast<char>(length >> 8 * i);
}

size_t length_at(std::string_view bytes) {
  size_t length = 0;
  for (int i = 0; i < 4; ++i)
    length |= static_cast<size_t>(static_cast<unsigned char>(bytes[static_cast<size_t>(i)]))
              << 8 * i;
  return length;
}

Fields fields_of(std::string_view body) {
  Fields fields;
  while (!body.empty()) {
    MB_CHECK_AS(CommError, body.size() >= 4 && length_at(body) <= body.size() - 4,
                "a field is longer than its message");
    fields.emplace_back(body.substr(4, length_at(body)));
    body.remove_prefix(4 + fields.back().size());
  }
  return fields;
}

}  // namespace

std::string to_frame(const Fields& fields) {
  std::string body;
  for (const std::string& field : fields) {
    append_length(body, field.size());
    body += field;
  }
  std::string frame(kMark);
  append_length(frame, body.size());
  return frame + body;
}

std::optional<Fields> take_frame(std::string& bytes, size_t limit) {
  const size_t seen = std::min(bytes.size(), kMark.size());
  MB_CHECK_AS(CommError, bytes.compare(0, seen, kMark.substr(0, seen)) == 0,
              "it is not a message of minibert");
  if (bytes.size() < kHead) return std::nullopt;
  const size_t length = length_at(std::string_view(bytes).substr(kMark.size()));
  MB_CHECK_AS(CommError, length <= limit, "its message has {} bytes, expected at most {}", length,
              limit);
  if (bytes.size() < kHead + length) return std::nullopt;
  Fields fields = fields_of(std::string_view(bytes).substr(kHead, length));
  bytes.erase(0, kHead + length);
  return fields;
}

int number_of(const std::string& field) {
  int number = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
  MB_CHECK_AS(CommError, error == std::errc() && end == field.data() + field.size(),
              "a field is no number");
  return number;
}

}  // namespace minibert
