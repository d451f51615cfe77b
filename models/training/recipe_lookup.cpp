// recipe_lookup.cpp: finds a recipe by name. The texts are in the generated recipes.cpp.
#include <sstream>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/training/recipes.h"

namespace minibert {

const Recipe& find_recipe(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name) return recipe;
    names.push_back(recipe.name);
  }
  fail<UsageError>("--recipe: \"{}\" is unknown, expected one of: {}.{}", name,
                   fmt::join(names, ", "), did_you_mean(name, names));
}

std::string describe(const Recipe& recipe) {
  std::istringstream stream(recipe.toml);
  std::string text;
  for (std::string line; std::getline(stream, line) && line.rfind('#', 0) == 0;) {
    const size_t start = line.find_first_not_of("# ");
    if (start != std::string::npos) text += (text.empty() ? "" : " ") + line.substr(start);
  }
  return text;
}

}  // namespace minibert
