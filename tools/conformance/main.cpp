// main.cpp: what this device computes for each primitive that kernels use, beside a plain model of
// it, and a file of the results, so that the engine of tools/simt can be compared with a GPU.
//   conformance [--out FILE] [--golden FILE]
// Exit code: 0 if all agrees, 1 if something differs from its model or from the golden, 2 if the
// device can't be used. Built by nvcc and for the engine: `tools/gpu-check conformance` runs it.
#include <cstdio>
#include <cstring>
#include <exception>

#include <fmt/format.h>

#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

void run_all(Report& report) {
  const std::pair<const char*, void (*)(Report&)> parts[] = {
      {"mma", run_mma},         {"warp", run_warp}, {"memory", run_memory},
      {"convert", run_convert}, {"math", run_math}, {"products", run_products}};
  for (const auto& [name, run] : parts) {
    try {
      run(report);
      MB_CUDA(cudaDeviceSynchronize());
    } catch (const std::exception& error) {  // the others may still tell something
      report.failed(name, error.what());
    }
  }
}

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties{};
  MB_CUDA(cudaGetDevice(&device));
  MB_CUDA(cudaGetDeviceProperties(&properties, device));
  return fmt::format("{} sm_{}{}", properties.name, properties.major, properties.minor);
}

int run(int count, char** arguments) {
  std::string out, golden;
  for (int i = 1; i < count; i += 2) {
    std::string* value = std::strcmp(arguments[i], "--out") == 0      ? &out
                         : std::strcmp(arguments[i], "--golden") == 0 ? &golden
                                                                      : nullptr;
    if (!value || i + 1 == count) {
      std::fprintf(stderr, "usage: conformance [--out FILE] [--golden FILE]\n");
      return 2;
    }
    *value = arguments[i + 1];
  }
  const std::string device = device_name();
  fmt::print("{}\n", device);
  Report report;
  run_all(report);
  if (!out.empty()) report.write(out, device);
  return report.finish(golden) ? 0 : 1;
}

}  // namespace
}  // namespace minibert::conformance

int main(int count, char** arguments) {
  try {
    return minibert::conformance::run(count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "conformance: %s\n", error.what());
    return 2;
  }
}
