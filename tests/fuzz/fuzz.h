// fuzz.h: what the fuzzing targets share: a folder in memory for readers of files, the one kind of
// failure that is allowed, inputs of several parts, and seeds. Included by every *_fuzz.cpp, which
// defines fuzz() and seeds(); main.cpp has the functions that libFuzzer calls. Easy to break: an
// input must give the same run each time, so nothing may be left in the folder or in static state
// by the one before it. Run: tools/fuzz. Source: llvm.org/docs/LibFuzzer.html.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace minibert::fuzz {

// ---- What a target defines -----------------------------------------------------------------------

/// Reads one input with the product's own reader, and checks what must be true of any.
void fuzz(std::string_view input);
/// Small inputs that the reader accepts, for libFuzzer to begin with.
std::vector<std::string> seeds();

// ---- What it may use -----------------------------------------------------------------------------

/// Where a claim about the reader fails, the input is kept as a crash.
inline void claim(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "claim fails: %s\n", what);
  std::abort();
}

/// Whether `body` ended without an error. Errors of ours are allowed, but for InternalError, which
/// is a bug. Any other exception leaves main, and libFuzzer calls it a crash.
inline bool succeeds(const std::function<void()>& body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    if (error.category() == ErrorCategory::internal) throw;
    return false;
  }
}

/// Parts of an input, with "\n----\n" between them; those that are missing are empty.
inline std::vector<std::string_view> parts_of(std::string_view input, size_t count) {
  constexpr std::string_view kBorder = "\n----\n";
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < count) {
    const size_t end = input.find(kBorder);
    parts.push_back(input.substr(0, end));
    input.remove_prefix(end == input.npos ? input.size() : end + kBorder.size());
  }
  parts.push_back(input);
  return parts;
}

inline std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (&part == parts.data() ? "" : "\n----\n") + part;
  return text;
}

/// {"KEY": [[[[...]]]]}: too deep for what reads JSON by recursion.
inline std::string deep_json(const std::string& key) {
  constexpr size_t kDepth = 20'000;
  return "{\"" + key + "\": " + std::string(kDepth, '[') + std::string(kDepth, ']') + "}";
}

/// The process's folder, in memory where the system has such a place. tools/fuzz sets TMPDIR to one
/// and removes what crashed processes leave.
inline const std::filesystem::path& folder() {
  static const struct Owner {
    Owner() {
      const char* named = std::getenv("TMPDIR");
      const std::filesystem::path base = named ? named : "/dev/shm";
      std::string name = (base / "minibert-fuzz-XXXXXX").string();
      claim(mkdtemp(name.data()) != nullptr, "a temporary folder can be made");
      path = name;
    }
    ~Owner() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  } owner;
  return owner.path;
}

inline std::filesystem::path write(const std::string& name, std::string_view bytes) {
  std::filesystem::path path = folder() / name;
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

/// The file `name`, or none for an empty part.
inline void write_or_remove(const std::string& name, std::string_view bytes) {
  if (!bytes.empty()) {
    write(name, bytes);
  } else {
    std::filesystem::remove(folder() / name);
  }
}

inline std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A little-endian number in bytes, at an offset that is inside.
template <typename T>
T get(std::string_view bytes, size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}
template <typename T>
void put(std::string& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

/// libFuzzer's mutation of a text, to at most `room` bytes more.
inline std::string mutated(std::string text, size_t room) {
  const size_t size = text.size();
  text.resize(size + room + 1);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, size + room + 1));
  return text;
}

/// For LLVMFuzzerCustomMutator: puts what `change(bytes, room)` returns where libFuzzer wants it.
template <typename Change>
size_t mutate(uint8_t* data, size_t size, size_t max_size, const Change& change) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::string changed = change(bytes, max_size - size);
  const size_t given = std::min(changed.size(), max_size);
  std::memcpy(data, changed.data(), given);
  return given;
}

/// `--seeds DIR`: writes them and ends.
inline void write_seeds(const std::filesystem::path& into) {
  std::filesystem::create_directories(into);
  size_t number = 0;
  for (const std::string& seed : seeds()) {
    claim(!seed.empty(), "a seed is not empty");
    std::ofstream(into / ("seed-" + std::to_string(number++)), std::ios::binary) << seed;
  }
}

}  // namespace minibert::fuzz
