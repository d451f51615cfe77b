// fault_report.cpp: a handler of SIGSEGV and SIGBUS in front of the one that was there.
#include "tools/simt/runtime/fault_report.h"

#include <string>

#include <signal.h>
#include <unistd.h>

#include "tools/simt/memory.h"

namespace simt {
namespace {

struct sigaction g_before_segv, g_before_bus;

void report(int signal, siginfo_t* info, void*) {
  if (is_device_address(info->si_addr)) {
    const std::string text = "simt: access to device memory that is not allowed here: " +
                             describe_address(info->si_addr) + "\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  }
  // Returning repeats the access, which then meets the former handler or kills the process.
  sigaction(signal, signal == SIGSEGV ? &g_before_segv : &g_before_bus, nullptr);
}

}  // namespace

void install_fault_report() {
  static bool installed = false;
  if (installed) return;
  installed = true;
  struct sigaction action {};
  action.sa_sigaction = report;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &g_before_segv);
  sigaction(SIGBUS, &action, &g_before_bus);
}

}  // namespace simt
