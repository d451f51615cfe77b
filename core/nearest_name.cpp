// nearest_name.cpp: edit distance: insert, delete, replace, and two neighbours that change places, the
// commonest slip of a typist (optimal string alignment; Damerau 1964), over three rows.
#include "core/nearest_name.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace minibert {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1), before(row), two_before(row);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(two_before, before);
    std::swap(before, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], two_before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string in_small_letters(std::string_view text) {
  std::string small(text);
  for (char& c : small) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return small;
}

std::string nearest_name(std::string_view typed, const std::vector<std::string>& names) {
  const std::string wanted = in_small_letters(typed);
  std::string best;
  size_t best_distance = std::max<size_t>(2, wanted.size() / 3) + 1;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(wanted, in_small_letters(name));
    if (distance < best_distance) best = name, best_distance = distance;
  }
  return best;
}

std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& names) {
  const std::string name = nearest_name(wanted, names);
  return name.empty() ? "" : " Did you mean " + name + "?";
}

}  // namespace minibert
