// misspelt.h: what was meant by a verb, a flag or a word that does not exist. Called by main.cpp before
// it says that something is required or not allowed, since the misspelt one may be it.
// Test: ctest -R tools_misspelt.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace minibert {

/// The recognised verbs as they are typed: "data build".
std::string path_of(const CLI::App& app);
/// An unknown verb is reported with the nearest one, at each level that requires a verb; CLI11 would
/// only say that one is required. Errors: UsageError.
void reject_unknown_verb(const CLI::App& app, int argc, char** argv);
/// Reports "--flag=" with nothing behind it, for which CLI11 takes the next argument as the value.
/// Errors: UsageError.
void reject_empty_value(int argc, char** argv);
/// Reports an unknown flag with the nearest one of the verb that was being parsed, or those that have
/// its words in them; also one with a single or a typographic dash. Arguments after "--" are texts.
/// Errors: UsageError.
void reject_unknown_flag(const CLI::App& app, int argc, char** argv);
/// Adds the nearest word to CLI11's "--on-error: stpo not in {skip,stop}". Errors: UsageError.
void reject_unknown_word(const CLI::App& app, const std::string& complaint);

}  // namespace minibert
