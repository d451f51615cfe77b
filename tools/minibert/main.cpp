// main.cpp: the command line. Adds every verb, runs the requested one, and turns errors into exit
// codes. The only place that prints errors and exits. Test: ctest -R tools_text_verbs.
#include <csignal>
#include <cstdio>
#include <new>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "core/version.h"
#include "tools/minibert/misspelt.h"
#include "tools/minibert/verbs.h"

namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 data, 4 numeric stop, "
    "5 another rank is lost, 6 out of memory, 7 checkpoint, 75 saved after a signal (start it "
    "again to continue).";

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
  reject_empty_value(argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    reject_unknown_flag(app, argc, argv);
    fail<UsageError>("{}: {}. minibert {} --help shows what it takes.", path_of(app), error.what(),
                     path_of(app));
  } catch (const CLI::RequiredError& error) {
    reject_unknown_flag(app, argc, argv);
    return app.exit(error) == 0 ? 0 : static_cast<int>(ErrorCategory::usage);
  } catch (const CLI::ValidationError& error) {
    reject_unknown_word(app, error.what());
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
