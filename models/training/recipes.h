// recipes.h: the texts built into the binary, unchanged: training recipes, recipes/*.toml, and machines
// to plan for, clusters/*.toml.
// Embedded by cmake/MinibertRecipes.cmake; read by the verb `train`. A recipe is an ordinary
// configuration file whose comments explain each value. Test: ctest -R training_config.
#pragma once

#include <string>
#include <vector>

namespace minibert {

struct Recipe {
  std::string name;  // the file's, without .toml
  std::string toml;
};

/// All recipes, by name.
const std::vector<Recipe>& recipes();

/// The machines to plan for, clusters/*.toml, by name: cluster.h reads them.
const std::vector<Recipe>& clusters();

/// Errors: UsageError naming the nearest recipe.
const Recipe& find_recipe(const std::string& name);

/// The comment lines at the top of a recipe, without "# ", as one line.
std::string describe(const Recipe& recipe);

}  // namespace minibert
