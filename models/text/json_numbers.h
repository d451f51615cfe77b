// json_numbers.h: whole numbers of JSON, each as the type that holds it, or nothing.
// Called by the readers of manifests, checkpoints, configs and tokenizers. Test: ctest -R json_numbers.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

namespace minibert {

/// `value` if it is a whole number that T holds. json::get<T> turns a fraction, and a number beyond T,
/// into some other number.
template <std::integral T>
std::optional<T> whole_number(const nlohmann::json& value) {
  const auto held = [](auto number) {
    return std::in_range<T>(number) ? std::optional(static_cast<T>(number)) : std::nullopt;
  };
  if (value.is_number_unsigned()) return held(value.get<uint64_t>());
  if (value.is_number_integer()) return held(value.get<int64_t>());
  return std::nullopt;
}

}  // namespace minibert
