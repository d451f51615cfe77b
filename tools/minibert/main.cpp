// main.cpp: the command line. Adds every verb, runs the one that was asked for, and turns errors
// into exit codes. The only place that prints errors and exits.
#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/version.h"
#include "tools/minibert/verbs.h"

namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 data, 4 numeric stop, 5 "
    "communication, "
    "6 out of memory, 7 checkpoint, 75 saved after a signal (start it again to go on).";

// A first word that is no verb gets the nearest one, where CLI11 would only say that a verb is
// required.
void reject_unknown_verb(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    verbs.push_back(verb->get_name());
  if (std::find(verbs.begin(), verbs.end(), argv[1]) != verbs.end()) return;
  minibert::fail<minibert::UsageError>("there is no verb \"{}\".{} minibert --help lists them.",
                                       argv[1], minibert::did_you_mean(argv[1], verbs));
}

// An unknown flag gets the nearest one of the verb that was being parsed.
[[noreturn]] void reject_unknown_flag(const CLI::App& app, const CLI::ExtrasError& error, int argc,
                                      char** argv) {
  const CLI::App* verb = &app;
  while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
  std::vector<std::string> flags;
  for (const CLI::Option* option : verb->get_options())
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  for (int i = 1; i < argc; ++i) {
    const std::string flag = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    if (flag.rfind("--", 0) != 0 || std::find(flags.begin(), flags.end(), flag) != flags.end())
      continue;
    minibert::fail<minibert::UsageError>(
        "{}: there is no flag {}.{} minibert {} --help lists them.", verb->get_name(), flag,
        minibert::did_you_mean(flag, flags), verb->get_name());
  }
  minibert::fail<minibert::UsageError>("{}: {}. minibert {} --help shows what it takes.",
                                       verb->get_name(), error.what(), verb->get_name());
}

// Parses and runs; CLI11 calls the verb's callback. Returns the exit code.
int run(int argc, char** argv) {
  using namespace minibert;
  CLI::App app{"minibert pre-trains BERT with LAMB, natively: no Python at run time.", "minibert"};
  app.set_version_flag("--version", fmt::format("minibert {} ({})\n{}\n{}", version(), git_commit(),
                                                compiler(), libraries()));
  app.footer(kExitCodes);
  app.require_subcommand(1);
  // Verbs in the order of a first walk through the product. Each adds its own line.
  add_tokenizer_verb(app);
  add_env_verb(app);
  add_data_verb(app);
  add_train_verb(app);
  add_eval_verb(app);
  add_fill_mask_verb(app);
  add_embed_verb(app);
  add_gradcheck_verb(app);
  add_bench_verb(app);
  reject_unknown_verb(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    reject_unknown_flag(app, error, argc, argv);
  } catch (const CLI::RuntimeError& exit) {  // a verb's own exit code: 75, saved after a signal
    return exit.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ErrorCategory::usage);
  }
  return 0;
}

int report(const minibert::Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", error.what());
  return error.exit_code();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace minibert;
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(OutOfMemory(
        "the system refused memory. Use a smaller --micro-batch-size or a smaller model."));
  } catch (const std::exception& error) {
    return report(InternalError(
        fmt::format("{}. This is a bug in minibert: please report it.", error.what())));
  }
}
