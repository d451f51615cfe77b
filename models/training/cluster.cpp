// cluster.cpp: TOML to a Cluster. A table of keys a section; all that is not in it is refused.
#include "models/training/cluster.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/training/published.h"
#include "models/training/recipes.h"
#include "models/training/toml_text.h"

namespace minibert {
namespace {

constexpr int64_t kFormatVersion = 1;

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) names.push_back(recipe.name);
  return names;
}

/// Reads the keys of one table, and remembers which it was asked for.
class Section {
 public:
  Section(const toml::table& table, std::string name, const std::string& origin)
      : table_(table), name_(std::move(name)), origin_(origin) {}

  double number(const char* key, double low, double high) {
    const toml::node& node = wanted(key, "a number");
    return in_range(node, key, "a number", node.is_number(), low, high);
  }
  int64_t integer(const char* key, int64_t low, int64_t high) {
    const toml::node& node = wanted(key, "an integer");
    return in_range(node, key, "an integer", node.is_integer(), low, high);
  }
  std::string text(const char* key) {
    const toml::node& node = wanted(key, "a string");
    MB_CHECK(node.is_string() && !node.value<std::string>()->empty(),
             "{}: {} is {}, expected a string", place(node), path(key), text_of(node));
    return *node.value<std::string>();
  }
  Section section(const char* key) {
    const toml::node& node = wanted(key, "a table");
    MB_CHECK(node.is_table(), "{}: {} is {}, expected a table [{}]", place(node), path(key),
             text_of(node), path(key));
    return {*node.as_table(), path(key), origin_};
  }
  bool has(const char* key) {
    asked_.push_back(key);
    return table_.contains(key);
  }
  std::vector<std::string> texts(const char* key) {
    const toml::node& node = wanted(key, "a list of strings");
    const toml::array* list = node.as_array();
    MB_CHECK(list && !list->empty() && list->is_homogeneous(toml::node_type::string),
             "{}: {} is {}, expected a list of strings", place(node), path(key), text_of(node));
    std::vector<std::string> values;
    for (const toml::node& element : *list) values.push_back(*element.value<std::string>());
    return values;
  }
  /// Errors: UsageError if the table has a key that was not asked for.
  void end() const {
    for (const auto& [key, node] : table_) {
      const std::string found(key.str());
      if (std::ranges::find(asked_, found) != asked_.end()) continue;
      fail<UsageError>("{}: key {} is unknown, expected one of: {}.{}", place(node), path(found),
                       fmt::join(asked_, ", "), did_you_mean(found, asked_));
    }
  }

 private:
  const toml::node& wanted(const std::string& key, const char* what) {
    asked_.push_back(key);
    const toml::node* node = table_.get(key);
    MB_CHECK(node,
             "{}: {} is missing, expected {}. `minibert plan --print-cluster h100` prints an "
             "example.",
             place(table_), path(key), what);
    return *node;
  }
  template <typename T>
  T in_range(const toml::node& node, const char* key, const char* what, bool is_one, T low,
             T high) const {
    const auto value = is_one ? node.value<T>() : std::nullopt;
    MB_CHECK(value && *value >= low && *value <= high, "{}: {} is {}, expected {} of {} to {}",
             place(node), path(key), text_of(node), what, low, high);
    return *value;
  }
  std::string path(const std::string& key) const { return name_.empty() ? key : name_ + "." + key; }
  std::string place(const toml::node& node) const { return toml_place(origin_, node); }
  static std::string text_of(const toml::node& node) {
    std::ostringstream stream;
    node.visit([&](const auto& value) { stream << value; });
    return stream.str();
  }

  const toml::table& table_;
  std::string name_;
  const std::string& origin_;
  std::vector<std::string> asked_;
};

constexpr int64_t kMost = int64_t{1} << 40;
constexpr double kAny = 1e15;
constexpr double kLeast = 1e-9;

void read_device(Section section, Cluster& cluster) {
  cluster.device_name = section.text("name");
  cluster.peak_flops = 1e12 * section.number("peak_tflops", kLeast, kAny);
  cluster.attained_share = section.number("attained_share", kLeast, 1);
  cluster.memory_bytes = 1e9 * section.number("memory_gigabytes", kLeast, kAny);
  cluster.memory_bytes_per_second =
      1e9 * section.number("memory_gigabytes_per_second", kLeast, kAny);
  section.end();
}

void read_links(Section section, Cluster& cluster) {
  cluster.devices_a_node = section.integer("devices_a_node", 1, kMost);
  cluster.node_bytes_per_second = 1e9 * section.number("node_gigabytes_per_second", kLeast, kAny);
  cluster.network_bytes_per_second =
      1e9 * section.number("network_gigabytes_per_second", kLeast, kAny);
  cluster.link_share = section.number("attained_share", kLeast, 1);
  cluster.latency_seconds = 1e-6 * section.number("latency_microseconds", 0, kAny);
  section.end();
}

void read_published(Section section, const std::string& origin, ClusterRuns& published) {
  published.title = section.text("title");
  published.gradient_bytes = section.integer("gradient_bytes", 1, 8);
  published.fit = section.text("fit");
  published.recipes = section.texts("recipes");
  section.end();
  for (const std::string& name : published.recipes) {
    const PublishedRun* run = published_run(name);
    MB_CHECK(run && run->hours > 0 && run->devices > 0,
             "{}: published.recipes has \"{}\", expected recipes whose time and devices were "
             "published (minibert train --list-recipes).{}",
             origin, name, did_you_mean(name, recipe_names()));
  }
  MB_CHECK(std::ranges::find(published.recipes, published.fit) != published.recipes.end(),
           "{}: published.fit is \"{}\", expected one of published.recipes.{}", origin,
           published.fit, did_you_mean(published.fit, published.recipes));
}

}  // namespace

Cluster parse_cluster(std::string_view text, const std::string& origin) {
  const toml::table document = parse_toml(text, origin);
  Cluster cluster;
  cluster.description = describe({.name = "", .toml = std::string(text)});
  Section all(document, "", origin);
  all.integer("format_version", 1, kFormatVersion);
  read_device(all.section("device"), cluster);
  read_links(all.section("links"), cluster);
  if (all.has("published")) read_published(all.section("published"), origin, cluster.published);
  all.end();
  return cluster;
}

Cluster find_cluster(const std::string& name_or_file) {
  if (name_or_file.ends_with(".toml")) {
    std::ifstream file(name_or_file);
    MB_CHECK(file && !std::filesystem::is_directory(name_or_file),
             "{}: the description of a cluster can't be read. Check the path given to --cluster.",
             name_or_file);
    std::ostringstream text;
    text << file.rdbuf();
    Cluster cluster = parse_cluster(text.str(), name_or_file);
    cluster.name = std::filesystem::path(name_or_file).stem().string();
    return cluster;
  }
  for (const Recipe& one : clusters()) {
    if (one.name != name_or_file) continue;
    Cluster cluster = parse_cluster(one.toml, "cluster " + one.name);
    cluster.name = one.name;
    return cluster;
  }
  fail<UsageError>(
      "--cluster: \"{}\" is unknown, expected a file that ends in .toml, or one of: {}.{}",
      name_or_file, fmt::join(cluster_names(), ", "), did_you_mean(name_or_file, cluster_names()));
}

std::vector<std::string> cluster_names() {
  std::vector<std::string> names;
  for (const Recipe& one : clusters()) names.push_back(one.name);
  return names;
}

}  // namespace minibert
