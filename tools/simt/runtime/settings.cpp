// settings.cpp: the knobs of control.h, and the environment variables that set the same.
// A variable that can't be understood ends the process: a typing error must not pass as a test.
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

[[noreturn]] void refuse(const char* variable, const std::string& value, const char* wanted) {
  std::fprintf(stderr, "simt: %s is \"%s\", expected %s\n", variable, value.c_str(), wanted);
  std::exit(2);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// A whole number that may end in K, M or G. Errors: as refuse().
uint64_t number(const char* variable, const std::string& text, const char* wanted) {
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  const std::string unit = end;
  const char* units = "KMG";
  for (int i = 0; i < 3; ++i)
    if (end != text && unit == std::string(1, units[i])) return value << (10 * (i + 1));
  if (text.empty() || end == text.c_str() || !unit.empty()) refuse(variable, text, wanted);
  return value;
}

void read_schedule(Runtime& r, const char* variable, const std::string& value) {
  const char* wanted = "eager, lazy, random or random:SEED";
  const auto parts = split(value, ':');
  if (value == "eager") {
    r.schedule = Schedule::eager;
  } else if (value == "lazy") {
    r.schedule = Schedule::lazy;
  } else if (!parts.empty() && parts[0] == "random" && parts.size() <= 2) {
    r.schedule = Schedule::random;
    if (parts.size() == 2) r.random.seed(number(variable, parts[1], wanted));
  } else {
    refuse(variable, value, wanted);
  }
}

void read_failures(Runtime& r, const char* variable, const std::string& value) {
  const char* wanted = "FUNCTION:N or FUNCTION:N:CODE, several with commas between";
  for (const std::string& entry : split(value, ',')) {
    const auto parts = split(entry, ':');
    if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) refuse(variable, entry, wanted);
    const int nth = static_cast<int>(number(variable, parts[1], wanted));
    if (nth < 1) refuse(variable, entry, wanted);
    const int code = parts.size() == 3 ? static_cast<int>(number(variable, parts[2], wanted)) : 0;
    r.failures.push_back({parts[0], nth, code});
  }
}

bool read_switch(const char* variable, const std::string& value) {
  if (value != "0" && value != "1") refuse(variable, value, "0 or 1");
  return value == "1";
}

/// Writes "FUNCTION CALLS" lines to the file that SIMT_CALLS names.
void write_calls() {
  const char* path = std::getenv("SIMT_CALLS");
  std::FILE* file = std::fopen(path, "w");
  if (!file) refuse("SIMT_CALLS", path, "a file that can be written");
  for (const auto& [function, calls] : runtime().calls)
    std::fprintf(file, "%s %llu\n", function.c_str(), static_cast<unsigned long long>(calls));
  std::fclose(file);
}

void read_environment(Runtime& r) {
  const auto read = [](const char* variable, const auto& use) {
    const char* value = std::getenv(variable);
    if (value && *value) use(variable, std::string(value));
  };
  read("SIMT_DEVICE", [&](const char* variable, const std::string& value) {
    if (value != "sm_80" && value != "sm_90") refuse(variable, value, "sm_80 or sm_90");
    r.model = device_model(value == "sm_80" ? 80 : 90);
  });
  read("SIMT_DEVICE_NAME", [&](const char*, const std::string& value) { r.model.name = value; });
  read("SIMT_DEVICES", [&](const char* variable, const std::string& value) {
    r.model.devices = static_cast<int>(number(variable, value, "how many devices there are"));
  });
  read("SIMT_MULTIPROCESSORS", [&](const char* variable, const std::string& value) {
    r.model.multiprocessors = static_cast<int>(number(variable, value, "a number"));
  });
  read("SIMT_MEMORY", [&](const char* variable, const std::string& value) {
    r.model.memory_bytes = number(variable, value, "bytes, as 8G, 512M or 1048576");
  });
  read("SIMT_SCHEDULE",
       [&](const char* variable, const std::string& value) { read_schedule(r, variable, value); });
  read("SIMT_FAIL",
       [&](const char* variable, const std::string& value) { read_failures(r, variable, value); });
  read("SIMT_LOG", [&](const char* variable, const std::string& value) {
    r.log_launches = read_switch(variable, value);
  });
  read("SIMT_CALLS", [](const char*, const std::string&) { std::atexit(write_calls); });
  read("SIMT_STRICT", [&](const char* variable, const std::string& value) {
    r.strict_memory = read_switch(variable, value);
  });
  read("SIMT_CUBLASLT_REFUSES", [&](const char* variable, const std::string& value) {
    r.cublaslt_refuses = read_switch(variable, value);
  });
  read("SIMT_NCCL_TIMEOUT", [&](const char* variable, const std::string& value) {
    r.nccl_timeout = static_cast<double>(number(variable, value, "seconds"));
  });
}

}  // namespace

Runtime& runtime() {
  static Runtime* instance = [] {
    auto* made = new Runtime;  // never destroyed: static objects may call the runtime late
    read_environment(*made);
    return made;
  }();
  return *instance;
}

void set_schedule(Schedule schedule, uint64_t seed) {
  std::lock_guard lock(runtime().mutex);
  runtime().schedule = schedule;
  runtime().random.seed(seed);
  for (CUstream_st* stream : runtime().all_streams()) stream->urgency = random_urgency();
}

DeviceModel device_model(int capability) {
  DeviceModel model;
  if (capability == 90) {
    model.name = "Emulated sm_90";
    model.major = 9;
    model.multiprocessors = 132;
  }
  return model;
}

void set_device_model(const DeviceModel& model) {
  std::lock_guard lock(runtime().mutex);
  runtime().model = model;
}

void fail_call(const std::string& function, int nth, int code) {
  std::lock_guard lock(runtime().mutex);
  runtime().failures.push_back({function, nth, code});
}

void clear_failures() {
  std::lock_guard lock(runtime().mutex);
  runtime().failures.clear();
}

void set_nccl_timeout(double seconds) {
  std::lock_guard lock(runtime().mutex);
  runtime().nccl_timeout = seconds;
}

void set_cublaslt_refuses(bool refuses) {
  std::lock_guard lock(runtime().mutex);
  runtime().cublaslt_refuses = refuses;
}

std::vector<LaunchRecord> launches() {
  std::lock_guard lock(runtime().mutex);
  return runtime().launches;
}

void clear_launches() {
  std::lock_guard lock(runtime().mutex);
  runtime().launches.clear();
  runtime().records_launches = true;
}

uint64_t calls_of(const std::string& function) {
  std::lock_guard lock(runtime().mutex);
  const auto found = runtime().calls.find(function);
  return found == runtime().calls.end() ? 0 : found->second;
}

uint64_t pageable_async_copies() {
  std::lock_guard lock(runtime().mutex);
  return runtime().pageable_async_copies;
}

}  // namespace simt
