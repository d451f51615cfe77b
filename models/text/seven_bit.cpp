// seven_bit.cpp: one function an encoding. See seven_bit.h.
#include "models/text/seven_bit.h"

namespace minibert {
namespace {

constexpr int64_t kAFew = 3;  // runs of UTF-7, characters of HZ; fewer may be chance

/// The encoding whose letters begin with ESC $ and this.
std::string_view by_escape(std::string_view rest) {
  if (rest.starts_with(")C")) return "ISO-2022-KR";
  if (rest.starts_with(")A") || rest.starts_with(")G")) return "ISO-2022-CN";
  if (rest.starts_with('B') || rest.starts_with('@')) return "ISO-2022-JP";
  if (rest.starts_with('A') || rest.starts_with("(A") || rest.starts_with("(C") ||
      rest.starts_with("(D"))
    return "ISO-2022-JP-2";
  return {};
}

int base64_value(char c) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const size_t at = kDigits.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

/// Whether a run of base64 is UTF-16 beyond ASCII: whole units, no half of a surrogate pair, zero bits behind them.
/// One without a capital is an English word, as in "CD4+positive": all letters of Europe begin with A.
bool is_utf16(std::string_view run) {
  uint32_t bits = 0;
  int held = 0;
  bool high = false, capital = false;
  for (const char c : run) {
    capital |= c >= 'A' && c <= 'Z';
    bits = bits << 6 | static_cast<uint32_t>(base64_value(c));
    held += 6;
    if (held < 16) continue;
    held -= 16;
    const uint32_t unit = bits >> held & 0xFFFF;
    const bool low = unit >= 0xDC00 && unit < 0xE000;
    if (unit < 0x80 || low != high) return false;
    high = unit >= 0xD800 && unit < 0xDC00;
  }
  return capital && run.size() > 2 && !high && held < 6 && (bits & ((1U << held) - 1)) == 0;
}

}  // namespace

bool SevenBitMarks::look(std::string_view line) {
  const bool escape = escapes_.empty() && line.find("\x1B$") != std::string_view::npos;
  const bool tilde = !not_hz_ && line.find("~{") != std::string_view::npos;
  const bool plus = !not_utf7_ && line.find('+') != std::string_view::npos;
  if (escape) look_for_escapes(line);
  if (tilde) look_for_hz(line);
  if (plus) look_for_utf7(line);
  return escape || tilde || plus;
}

std::string SevenBitMarks::encoding() const {
  if (!escapes_.empty()) return escapes_;
  if (!not_hz_ && hz_ >= kAFew) return "HZ";
  return !not_utf7_ && utf7_ >= kAFew ? "UTF-7" : "";
}

void SevenBitMarks::look_for_escapes(std::string_view line) {
  for (size_t at = line.find("\x1B$"); at != std::string_view::npos && escapes_.empty();
       at = line.find("\x1B$", at + 2))
    escapes_ = by_escape(line.substr(at + 2));
}

/// ~{ pairs of bytes ~}, both on one line; the first byte of a pair is 0x21 to 0x77.
void SevenBitMarks::look_for_hz(std::string_view line) {
  for (size_t at = line.find("~{"); at != std::string_view::npos; at = line.find("~{", at)) {
    at += 2;
    const size_t first = at;
    while (at + 1 < line.size() && line[at] > 0x20 && line[at] <= 0x77 && line[at + 1] > 0x20 &&
           line[at + 1] < 0x7F)
      at += 2;
    hz_ += static_cast<int64_t>((at - first) / 2);
    not_hz_ |= at == first || !line.substr(at).starts_with("~}");
  }
}

/// + base64 of UTF-16, then - or whatever is no base64; "+-" is a plus.
void SevenBitMarks::look_for_utf7(std::string_view line) {
  for (size_t at = line.find('+'); at != std::string_view::npos; at = line.find('+', at)) {
    const size_t first = ++at;
    while (at < line.size() && base64_value(line[at]) >= 0) ++at;
    if (at == first && at < line.size() && line[at] == '-') continue;
    const bool letters = is_utf16(line.substr(first, at - first));
    utf7_ += letters;
    not_utf7_ |= !letters;
  }
}

}  // namespace minibert
