// config_values.cpp: visitors of a setting's type: its value from text, from TOML, and as TOML.
#include "models/training/config_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {
namespace {

constexpr const char* kAuto = "auto";  // a number that something else decides

std::string range_text(const ConfigKey& key) {
  if (std::isinf(key.high)) return fmt::format("at least {}", key.low);
  return fmt::format("{} to {}", key.low, key.high);
}

void check_range(const ConfigKey& key, double value, const std::string& origin) {
  MB_CHECK(value >= key.low && value <= key.high && std::isfinite(value),
           "{}: {} is {}, expected {} ({}). Change it there.", origin, key.name(), value,
           range_text(key), key.help);
}

/// Settings are doubles, what computes with them has 32 bits: max_grad_norm of 1e-50 would be 0, which is "never".
void check_number(const ConfigKey& key, double value, const std::string& origin) {
  check_range(key, value, origin);
  const auto used = static_cast<float>(value);
  MB_CHECK(
      value == 0 || std::isnormal(used),
      "{}: {} is {}, which is {} in fp32, expected 0 or {:.2g} to {:.2g} ({}). Change it there.",
      origin, key.name(), value, used, std::numeric_limits<float>::min(),
      std::numeric_limits<float>::max(), key.help);
}

void check_choice(const ConfigKey& key, const std::string& value, const std::string& origin) {
  if (key.choices.empty() || std::count(key.choices.begin(), key.choices.end(), value)) return;
  fail<UsageError>("{}: {} is \"{}\", expected one of: {}.{}", origin, key.name(), value,
                   fmt::join(key.choices, ", "), did_you_mean(value, key.choices));
}

/// A number of type T, which messages call `what`.
template <typename T>
T parse_number(const ConfigKey& key, const std::string& text, const char* what,
               const std::string& origin) {
  T value = 0;
  const bool plus = text.size() > 1 && text[0] == '+' && text[1] != '-';  // from_chars knows none
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + (plus ? 1 : 0), end, value);
  MB_CHECK(error == std::errc() && stop == end && !text.empty(),
           "{}: {} is \"{}\", expected {}, {} ({})", origin, key.name(), text, what,
           range_text(key), key.help);
  return value;
}

bool parse_bool(const ConfigKey& key, const std::string& text, const std::string& origin) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  fail<UsageError>("{}: {} is \"{}\", expected true or false ({})", origin, key.name(), text,
                   key.help);
}

/// A value as text, put into `config`.
struct TextSetter {
  TrainConfig& config;
  const ConfigKey& key;
  const std::string &text, &origin;

  void operator()(std::string TrainConfig::*member) const {
    check_choice(key, text, origin);
    config.*member = text;
  }
  void operator()(int64_t TrainConfig::*member) const {
    const int64_t value = parse_number<int64_t>(key, text, "an integer", origin);
    check_range(key, static_cast<double>(value), origin);
    config.*member = value;
  }
  void operator()(double TrainConfig::*member) const {
    const double value = parse_number<double>(key, text, "a number", origin);
    check_number(key, value, origin);
    config.*member = value;
  }
  void operator()(std::optional<double> TrainConfig::*member) const {
    (config.*member).reset();
    if (text == kAuto) return;
    config.*member = parse_number<double>(key, text, "a number", origin);
    check_number(key, *(config.*member), origin);
  }
  void operator()(bool TrainConfig::*member) const {
    config.*member = parse_bool(key, text, origin);
  }
  void operator()(std::vector<std::string> TrainConfig::*member) const {
    config.*member = split_commas(text);
  }
};

[[noreturn]] void wrong_type(const ConfigKey& key, const char* wanted, const std::string& origin) {
  fail<UsageError>("{}: {} has another type, expected {} ({})", origin, key.name(), wanted,
                   key.help);
}

/// A TOML value of the key's type, put into `config`.
struct TomlSetter {
  TrainConfig& config;
  const ConfigKey& key;
  const toml::node& node;
  const std::string& origin;

  void operator()(std::string TrainConfig::*member) const {
    if (!node.is_string()) wrong_type(key, "a string", origin);
    config.*member = *node.value<std::string>();
    check_choice(key, config.*member, origin);
  }
  void operator()(int64_t TrainConfig::*member) const {
    if (!node.is_integer()) wrong_type(key, "an integer", origin);
    check_range(key, static_cast<double>(*node.value<int64_t>()), origin);
    config.*member = *node.value<int64_t>();
  }
  void operator()(double TrainConfig::*member) const {
    if (!node.is_number()) wrong_type(key, "a number", origin);
    const auto value = node.value<double>();
    MB_CHECK(value,
             "{}: {} is an integer beyond 2^53, expected {} ({}). Write it with a decimal point.",
             origin, key.name(), range_text(key), key.help);
    check_number(key, *value, origin);
    config.*member = *value;
  }
  void operator()(std::optional<double> TrainConfig::*member) const {
    (config.*member).reset();
    if (node.is_string() && *node.value<std::string>() == kAuto) return;
    if (!node.is_number()) wrong_type(key, "a number or \"auto\"", origin);
    config.*member = node.value<double>().value_or(INFINITY);
    check_number(key, *(config.*member), origin);
  }
  void operator()(bool TrainConfig::*member) const {
    if (!node.is_boolean()) wrong_type(key, "true or false", origin);
    config.*member = *node.value<bool>();
  }
  void operator()(std::vector<std::string> TrainConfig::*member) const {
    const toml::array* array = node.as_array();
    if (!array) wrong_type(key, "a list of strings", origin);
    std::vector<std::string> values;
    for (const toml::node& element : *array) {
      if (!element.is_string()) wrong_type(key, "a list of strings", origin);
      values.push_back(*element.value<std::string>());
    }
    config.*member = values;
  }
};
std::string quoted(const std::string& text) {
  std::ostringstream stream;
  stream << toml::value<std::string>(text);
  return stream.str();
}

/// A setting as TOML text.
struct TomlText {
  const TrainConfig& config;
  std::string operator()(std::string TrainConfig::*member) const { return quoted(config.*member); }
  std::string operator()(int64_t TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(double TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(std::optional<double> TrainConfig::*member) const {
    return config.*member ? fmt::format("{}", *(config.*member)) : quoted(kAuto);
  }
  std::string operator()(bool TrainConfig::*member) const {
    return config.*member ? "true" : "false";
  }
  std::string operator()(std::vector<std::string> TrainConfig::*member) const {
    std::vector<std::string> parts;
    for (const std::string& value : config.*member) parts.push_back(quoted(value));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
};

}  // namespace

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

void set_from_text(const ConfigKey& key, TrainConfig& config, const std::string& text,
                   const std::string& origin) {
  std::visit(TextSetter{config, key, text, origin}, key.member);
}

void set_from_toml(const ConfigKey& key, TrainConfig& config, const toml::node& node,
                   const std::string& origin) {
  std::visit(TomlSetter{config, key, node, origin}, key.member);
}

std::string toml_text(const ConfigKey& key, const TrainConfig& config) {
  return std::visit(TomlText{config}, key.member);
}

ConfigValue value_of(const ConfigKey& key, const TrainConfig& config) {
  return std::visit([&](auto member) { return ConfigValue(config.*member); }, key.member);
}

void set_value(const ConfigKey& key, TrainConfig& config, const ConfigValue& value) {
  std::visit(
      [&](auto member) {
        config.*member = std::get<std::remove_cvref_t<decltype(config.*member)>>(value);
      },
      key.member);
}

}  // namespace minibert
