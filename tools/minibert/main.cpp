// main.cpp: the command line. Adds every verb, runs the requested one, and turns errors into exit
// codes. The only place that prints errors and exits. Test: ctest -R tools_text_verbs.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/version.h"
#include "tools/minibert/verbs.h"

namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 data, 4 numeric stop, "
    "5 another rank is lost, 6 out of memory, 7 checkpoint, 75 saved after a signal (start it "
    "again to continue).";

// The recognised verbs as they are typed: "data build".
std::string path_of(const CLI::App& app) {
  std::string path;
  for (const CLI::App* verb = &app; !verb->get_subcommands().empty();) {
    verb = verb->get_subcommands().front();
    path += (path.empty() ? "" : " ") + verb->get_name();
  }
  return path;
}

// An unknown verb is reported with the nearest one, at each level that requires a verb; CLI11 would
// only say that one is required.
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
      minibert::fail<minibert::UsageError>("there is no verb \"{}\".{} {} --help lists them.",
                                           argv[i], minibert::did_you_mean(argv[i], verbs), path);
    }
    level = *found;
    path += std::string(" ") + argv[i];
  }
}

// Reports an unknown flag with the nearest one of the verb that was being parsed. Also called when
// a required flag is missing, since that may be the misspelt one. Arguments after "--" are texts.
void reject_unknown_flag(const CLI::App& app, int argc, char** argv) {
  const std::string path = path_of(app);
  const CLI::App* verb = &app;
  while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
  const std::vector<std::string> flags = minibert::flags_of(*verb);
  for (int i = 1; i < argc && std::string(argv[i]) != "--"; ++i) {
    const std::string flag = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    if (flag.rfind("--", 0) != 0 || std::find(flags.begin(), flags.end(), flag) != flags.end())
      continue;
    minibert::fail<minibert::UsageError>(
        "{}: there is no flag {}.{} minibert {} --help lists them.", path, flag,
        minibert::did_you_mean(flag, flags), path);
  }
}

// Parses and runs; CLI11 calls the verb's callback. Returns the exit code.
int run(int argc, char** argv) {
  using namespace minibert;
  CLI::App app{"minibert pre-trains BERT with LAMB, natively: no Python at run time.", "minibert"};
  app.set_version_flag("--version", fmt::format("minibert {} ({})\n{}\n{}", version(), git_commit(),
                                                compiler(), libraries()));
  app.footer(kExitCodes);
  app.require_subcommand(1);
  // Verbs in the order in which a new user needs them. Each adds its own line.
  add_tokenizer_verb(app);
  add_env_verb(app);
  add_doctor_verb(app);
  add_data_verb(app);
  add_plan_verb(app);
  add_train_verb(app);
  add_verify_resume_verb(app);
  add_report_verb(app);
  add_compare_verb(app);
  add_finetune_verb(app);
  add_eval_verb(app);
  add_fill_mask_verb(app);
  add_embed_verb(app);
  add_gradcheck_verb(app);
  add_bench_verb(app);
  reject_unknown_verb(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    reject_unknown_flag(app, argc, argv);
    fail<UsageError>("{}: {}. minibert {} --help shows what it takes.", path_of(app), error.what(),
                     path_of(app));
  } catch (const CLI::RequiredError& error) {
    reject_unknown_flag(app, argc, argv);
    return app.exit(error) == 0 ? 0 : static_cast<int>(ErrorCategory::usage);
  } catch (const CLI::RuntimeError& exit) {  // a verb's own: 75, or doctor's 2
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

// It is an error if any result did not reach standard output.
int report_output() {
  return report(minibert::DataError(
      "standard output can't be written: the disk is full, its reader has ended, or it is closed. "
      "Results are missing; send them somewhere else."));
}

// Makes a failing write an error where it happens instead of the end of the process: a reader that
// ends (train | head -1) or a limit on file sizes must not end a run. Streams that came closed are
// opened so that using them fails; else the next opened file, a lock or a log, would become
// standard output.
void prepare_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0)  // open() takes the lowest free number: this one
      (void)::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace minibert;
  prepare_streams();
  try {
    const int code = run(argc, argv);
    if (code == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout))) return report_output();
    return code;
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(OutOfMemory(
        "the system refused memory. Use a smaller --micro-batch-size or a smaller model."));
  } catch (const std::exception& error) {
    if (std::ferror(stdout) || std::ferror(stderr)) return report_output();  // fmt::print throws
    return report(InternalError(
        fmt::format("{}. This is a bug in minibert: please report it.", error.what())));
  }
}
