// misspelt.cpp: nearest verbs, flags and words.
#include "tools/minibert/misspelt.h"

#include <algorithm>
#include <regex>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "core/nearest_name.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

const CLI::App& verb_of(const CLI::App& app) {
  const CLI::App* verb = &app;
  while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
  return *verb;
}

/// "--model" for what was typed as "-model", or with the dash that a word processor makes of "--";
/// "" for what is no long flag.
std::string as_flag(const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  for (const std::string_view dash : {"\u2013", "\u2014"})
    if (name.starts_with(dash))
      return "--" + name.substr(std::min(name.size(), name.find_first_not_of("-", dash.size())));
  if (name.starts_with("--")) return name;
  const bool word =
      name.size() > 2 && name[0] == '-' && std::isalpha(static_cast<unsigned char>(name[1])) != 0;
  return word ? "-" + name : "";
}

/// " Did you mean --micro-batch-size or --global-batch-size?"
std::string flags_meant(const std::string& flag, const std::vector<std::string>& flags) {
  const std::string nearest = did_you_mean(flag, flags);
  if (!nearest.empty()) return nearest;
  std::vector<std::string> with_its_words;
  const std::string words = flag.substr(std::min<size_t>(2, flag.size()));
  constexpr size_t kMost = 4;  // more would say nothing
  for (const std::string& known : flags)
    if (words.size() > 2 && known.find(words) != std::string::npos && !known.starts_with("--no-"))
      with_its_words.push_back(known);
  if (with_its_words.empty() || with_its_words.size() > kMost) return "";
  return fmt::format(" Did you mean {}?", fmt::join(with_its_words, " or "));
}

}  // namespace

std::string path_of(const CLI::App& app) {
  std::string path;
  for (const CLI::App* verb = &app; !verb->get_subcommands().empty();) {
    verb = verb->get_subcommands().front();
    path += (path.empty() ? "" : " ") + verb->get_name();
  }
  return path;
}

void reject_unknown_verb(const CLI::App& app, int argc, char** argv) {
  const CLI::App* level = &app;
  std::string path = "minibert";
  for (int i = 1; i < argc && argv[i][0] != '-' && level->get_require_subcommand_min() > 0; ++i) {
    const auto known = level->get_subcommands([](const CLI::App*) { return true; });
    const auto found = std::find_if(known.begin(), known.end(), [&](const CLI::App* verb) {
      return verb->get_name() == argv[i];
    });
    if (found == known.end()) {
      std::vector<std::string> verbs;
      for (const CLI::App* verb : known) verbs.push_back(verb->get_name());
      fail<UsageError>("there is no verb \"{}\".{} {} --help lists them.", argv[i],
                       did_you_mean(argv[i], verbs), path);
    }
    level = *found;
    path += std::string(" ") + argv[i];
  }
}

void reject_empty_value(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with("--") || argument.find('=') + 1 != argument.size()) continue;
    fail<UsageError>(
        "{} has no value: the parser would take the next word as one. Write it behind the "
        "sign, or leave the flag out (a variable of the shell may be empty)",
        argument);
  }
}

void reject_unknown_flag(const CLI::App& app, int argc, char** argv) {
  const std::string path = path_of(app);
  const std::string command = path.empty() ? "minibert" : "minibert " + path;
  const std::vector<std::string> flags = flags_of(verb_of(app));
  for (int i = 1; i < argc && std::string(argv[i]) != "--"; ++i) {
    const std::string typed = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    const std::string flag = as_flag(argv[i]);
    if (flag.empty() || std::find(flags.begin(), flags.end(), typed) != flags.end()) continue;
    fail<UsageError>("{}: there is no flag {}.{} {} --help lists them.",
                     path.empty() ? command : path, typed, flags_meant(flag, flags), command);
  }
}

void reject_unknown_word(const CLI::App& app, const std::string& complaint) {
  static const std::regex form("(--[^:]+): (.*) not in \\{(.*)\\}");
  std::smatch match;
  if (!std::regex_match(complaint, match, form)) return;
  std::vector<std::string> words;
  std::string list = match[3].str() + ",";
  for (size_t from = 0, comma = 0; (comma = list.find(',', from)) != list.npos; from = comma + 1)
    words.push_back(list.substr(from, comma - from));
  const std::string word = match[2];
  fail<UsageError>("{}: {} is \"{}\", expected one of: {}.{}", path_of(app), match[1].str(), word,
                   fmt::join(words, ", "), did_you_mean(word, words));
}

}  // namespace minibert
