// range.cpp: one variable a thread. Test: ctest -R core_cuda_error.
#include "core/range.h"

namespace minibert {
namespace {
thread_local const char* t_op = nullptr;
}

const char* current_op() {
  return t_op;
}

OpRange::OpRange(const char* op) noexcept : range_(op), outer_(t_op) {
  t_op = op;
}

OpRange::~OpRange() {
  t_op = outer_;
}

}  // namespace minibert
