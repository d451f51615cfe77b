// real_library.h: NVIDIA's own library, opened beside the stand-in, where it is installed.
// What it answers without a GPU (texts of errors, sizes and defaults of attributes) is what the
// stand-in must answer. Its path comes from CMake through the environment; without it tests skip.
#pragma once

#include <cstdlib>

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace simt {

class RealLibrary {
 public:
  explicit RealLibrary(const char* variable) {
    const char* path = std::getenv(variable);
    if (path && *path) handle_ = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  bool found() const { return handle_ != nullptr; }
  /// The library's function of this name, with the type of ours.
  template <typename Function>
  Function* get(const char* name, Function*) const {
    auto* function = reinterpret_cast<Function*>(dlsym(handle_, name));
    EXPECT_NE(nullptr, function) << name;
    return function;
  }

 private:
  void* handle_ = nullptr;
};

/// real(f) is NVIDIA's f.
#define SIMT_REAL(library, function) (library).get(#function, &(function))

}  // namespace simt
