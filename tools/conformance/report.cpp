// report.cpp: verdicts, and the file: one JSON object a line, the device first.
#include "tools/conformance/report.h"

#include <bit>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace minibert::conformance {
namespace {

constexpr size_t kHashes = 16;      // of a part at most: a difference is then known to a 16th of it
constexpr size_t kMostValues = 64;  // of a part that are written

bool same_value(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

/// FNV-1a over words.
std::string hash_of(const uint32_t* words, size_t count) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < count; ++i)
    for (int byte = 0; byte < 4; ++byte)
      hash = (hash ^ (words[i] >> (8 * byte) & 0xFF)) * 0x100000001B3u;
  return fmt::format("{:016x}", hash);
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float x : values)
    bits.push_back(std::isnan(x) ? 0x7FFFFFFFu : std::bit_cast<uint32_t>(x));
  return bits;
}

/// A few values are written as they are, many as every nth.
size_t stride_of(size_t count) {
  return (count + kMostValues - 1) / kMostValues;
}

}  // namespace

std::string text(const char* format, ...) {
  char buffer[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

void Report::add_hashes(Part part, const std::vector<uint32_t>& bits) {
  part.kind = "exact";
  part.count = bits.size();
  const size_t chunk = std::max<size_t>(kHashes, (bits.size() + kHashes - 1) / kHashes);
  for (size_t first = 0; first < bits.size(); first += chunk)
    part.hashes.push_back(hash_of(&bits[first], std::min(chunk, bits.size() - first)));
  parts_.push_back(std::move(part));
}

void Report::exact(const std::string& name, const std::vector<uint32_t>& got,
                   const std::vector<uint32_t>& wanted) {
  MB_ASSERT(got.size() == wanted.size(), "conformance: {} has {} results, the model {}", name,
            got.size(), wanted.size());
  Part part{name};
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == wanted[i]) continue;
    if (part.wrong++ == 0)
      part.note = fmt::format("element {}: got {:#x}, expected {:#x}", i, got[i], wanted[i]);
  }
  add_hashes(std::move(part), got);
}

void Report::exact(const std::string& name, const std::vector<float>& got,
                   const std::vector<double>& wanted) {
  MB_ASSERT(got.size() == wanted.size(), "conformance: {} has {} results, the model {}", name,
            got.size(), wanted.size());
  Part part{name};
  for (size_t i = 0; i < got.size(); ++i) {
    if (same_value(got[i], wanted[i])) continue;
    if (part.wrong++ == 0)
      part.note = fmt::format("element {}: got {:.9g}, expected {:.9g}", i, got[i], wanted[i]);
  }
  add_hashes(std::move(part), bits_of(got));
}

void Report::close(const std::string& name, const std::vector<float>& got,
                   const std::vector<double>& wanted, Limits limits) {
  MB_ASSERT(got.size() == wanted.size(), "conformance: {} has {} results, the model {}", name,
            got.size(), wanted.size());
  Part part{name, "close"};
  part.count = got.size();
  part.limits = limits;
  for (size_t i = 0; i < got.size(); ++i) {
    double share = 0;
    if (!same_value(got[i], wanted[i]))
      share =
          std::abs(got[i] - wanted[i]) / (limits.relative * std::abs(wanted[i]) + limits.absolute);
    if (!(share <= 1) && part.wrong++ == 0)
      part.note = fmt::format("element {}: got {:.9g}, expected {:.9g}", i, got[i], wanted[i]);
    part.share = std::isnan(share) ? INFINITY : std::max(part.share, share);
  }
  for (size_t i = 0; i < got.size(); i += stride_of(got.size())) part.values.push_back(got[i]);
  parts_.push_back(std::move(part));
}

void Report::fact(const std::string& name, const std::string& text) {
  parts_.push_back({name, "fact", text});
}
void Report::failed(const std::string& name, const std::string& why) {
  parts_.push_back({name, "failed", why, 0, 1});
}

// ---- The file ----------------------------------------------------------------------------------
void Report::write(const std::string& path, const std::string& device) const {
  std::ofstream file(path);
  file << nlohmann::ordered_json{{"device", device}}.dump() << "\n";
  for (const Part& part : parts_) {
    nlohmann::ordered_json line = {{"part", part.name}, {"kind", part.kind}};
    if (part.kind == "exact" || part.kind == "close") line["count"] = part.count;
    if (part.kind == "exact") line["hashes"] = part.hashes;
    if (part.kind == "close") {
      line["relative"] = part.limits.relative;
      line["absolute"] = part.limits.absolute;
      nlohmann::ordered_json values = nlohmann::ordered_json::array();
      // As text, since JSON has no infinity and no NaN.
      for (const float x : part.values) values.push_back(fmt::format("{:.9g}", x));
      line["values"] = values;
    }
    if (!part.note.empty()) line["note"] = part.note;
    file << line.dump() << "\n";
  }
  if (!file.flush()) fail<DataError>("{}: cannot be written", path);
}

std::string Report::difference(const Part& part, const std::string& golden_line) {
  const auto golden = nlohmann::json::parse(golden_line);
  if (golden["kind"] != part.kind)
    return fmt::format("is {}, there {}", part.kind, golden["kind"].get<std::string>());
  if (part.kind == "fact" || part.kind == "failed") return "";
  if (golden["count"] != part.count)
    return fmt::format("has {} results, there {}", part.count, golden["count"].get<size_t>());
  if (part.kind == "exact") {
    for (size_t i = 0; i < part.hashes.size(); ++i)
      if (golden["hashes"][i] != part.hashes[i])
        return fmt::format("differs from the golden in part {} of {}", i, part.hashes.size());
    return "";
  }
  for (size_t i = 0; i < part.values.size(); ++i) {
    const double there = std::stod(golden["values"][i].get<std::string>()), here = part.values[i];
    const double limit = part.limits.relative * std::abs(there) + part.limits.absolute;
    if (!same_value(here, there) && !(std::abs(here - there) <= limit))
      return fmt::format("value {} is {:.9g}, in the golden {:.9g}", i, here, there);
  }
  return "";
}

bool Report::finish(const std::string& golden) const {
  std::map<std::string, std::string> there;
  if (!golden.empty()) {
    std::ifstream file(golden);
    if (!file) fail<DataError>("{}: cannot be opened, expected a result of this program", golden);
    for (std::string line; std::getline(file, line);) {
      const auto object = nlohmann::json::parse(line);
      if (object.contains("part")) there[object["part"]] = line;
    }
  }
  size_t wrong = 0, different = 0;
  for (const Part& part : parts_) {
    std::string verdict =
        part.wrong == 0 ? part.note : fmt::format("{} WRONG: {}", part.wrong, part.note);
    if (part.kind == "close" && part.wrong == 0)
      verdict = fmt::format("at most {:.0f} % of the allowed error", 100 * part.share);
    std::string differs;
    if (!golden.empty())
      differs = there.count(part.name) ? difference(part, there[part.name]) : "not in the golden";
    fmt::print("{:<36} {:<6} {:>7}  {}{}{}\n", part.name, part.kind, part.count, verdict,
               differs.empty() ? "" : "; GOLDEN: ", differs);
    wrong += part.wrong != 0;
    different += !differs.empty();
  }
  fmt::print("conformance: {} parts, {} disagree with their model{}\n", parts_.size(), wrong,
             golden.empty() ? ", no golden to compare with"
                            : fmt::format(", {} differ from {}", different, golden));
  return wrong == 0 && different == 0;
}

// ---- The formats' definitions --------------------------------------------------------------------
double value_of(Format format, uint32_t pattern) {
  const int bias = (1 << (format.exponent - 1)) - 1, most = (1 << format.exponent) - 1;
  const auto mantissa = static_cast<int>(pattern & ((1u << format.mantissa) - 1));
  const auto exponent = static_cast<int>(pattern >> format.mantissa) & most;
  double x;
  if (exponent == most) {
    x = mantissa ? NAN : INFINITY;
  } else if (exponent == 0) {
    x = std::ldexp(mantissa, 1 - bias - format.mantissa);
  } else {
    x = std::ldexp(mantissa + (1 << format.mantissa), exponent - bias - format.mantissa);
  }
  return pattern >> 15 & 1 ? -x : x;
}

uint32_t nearest(Format format, double x) {
  if (std::isnan(x)) return 0x7FFF;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const auto infinity = static_cast<uint32_t>((1 << format.exponent) - 1) << format.mantissa;
  const int bias = (1 << (format.exponent - 1)) - 1;
  x = std::abs(x);
  if (x == 0) return sign;
  if (std::isinf(x)) return sign | infinity;
  const int exponent = std::max(std::ilogb(x), 1 - bias);
  // In units of the last place; the default rounding of the host takes ties to even.
  const double units = std::nearbyint(std::ldexp(x, format.mantissa - exponent));
  // Patterns of one sign are in the order of their values, and carry from mantissa to exponent.
  const double pattern = units + std::ldexp(exponent + bias - 1, format.mantissa);
  return sign | (pattern >= infinity ? infinity : static_cast<uint32_t>(pattern));
}

double nearest_tf32(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), -126) - 10);
  const double magnitude = std::floor(std::abs(x) / unit + 0.5) * unit;
  return std::copysign(magnitude >= 0x1p128 ? INFINITY : magnitude, x);
}

}  // namespace minibert::conformance
