// main.cpp: the command line. Adds every verb, runs the one that was asked for, and turns errors
// into exit codes. The only place that prints errors and exits. Codes: 0 done, 1 internal, 2 usage,
// 3 data, 4 numeric, 5 communication, 6 out of memory, 7 checkpoint, 75 saved after a signal.
#include <cstdio>
#include <new>

#include "core/error.h"
#include "tools/minibert/verbs.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{"minibert: pre-trains BERT with LAMB, natively.", "minibert"};
  app.set_version_flag("--version", "minibert");
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const minibert::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory\n");
    return static_cast<int>(minibert::ErrorCategory::out_of_memory);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s. This is a bug in minibert: please report it.\n", error.what());
    return static_cast<int>(minibert::ErrorCategory::internal);
  }
}
