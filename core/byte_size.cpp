// byte_size.cpp: see byte_size.h.
#include "core/byte_size.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace minibert {
namespace {

/// Bytes of a unit in lower-case letters; 0 for what is none.
double bytes_of_unit(const std::string& unit) {
  if (unit == "b") return 1;
  static const std::string kPrefixes = "kmgt";
  const size_t power = unit.empty() ? std::string::npos : kPrefixes.find(unit[0]);
  if (power == std::string::npos) return 0;
  const std::string rest = unit.substr(1);
  const double thousand = rest == "b" ? 1000.0 : rest.empty() || rest == "ib" ? 1024.0 : 0.0;
  double bytes = thousand;
  for (size_t i = 0; i < power; ++i) bytes *= thousand;
  return bytes;
}

}  // namespace

int64_t parse_byte_size(const std::string& text, const std::string& flag, BareSize bare) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit = text.substr(static_cast<size_t>(stop - text.data()));
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const bool is_bare = static_cast<size_t>(stop - text.data()) == text.size();
  const double bytes = is_bare ? (bare == BareSize::bytes ? 1 : 0) : bytes_of_unit(unit);
  MB_CHECK(error == std::errc() && bytes > 0 && value >= 0 && value * bytes < 0x1p62,
           "{} is \"{}\", expected a number and a unit such as 16GiB or 80GB{}", flag, text,
           bare == BareSize::bytes ? ", or a number of bytes" : "");
  return static_cast<int64_t>(value * bytes);
}

}  // namespace minibert
