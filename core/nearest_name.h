// nearest_name.h: the name that a user probably meant. Called by configuration, verbs and ops when
// a name is unknown. Test: ctest -R core_nearest_name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace minibert {

/// `text` with A to Z as a to z.
std::string in_small_letters(std::string_view text);

/// The name with the smallest edit distance to `wanted`, ignoring case, or "" where none is within a
/// third of its length (at least 2).
std::string nearest_name(std::string_view wanted, const std::vector<std::string>& names);

/// " Did you mean X?", or "" where nothing is near.
std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& names);

}  // namespace minibert
