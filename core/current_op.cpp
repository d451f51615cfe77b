// current_op.cpp: one variable a thread.
#include "core/current_op.h"

#include <utility>

namespace minibert {
namespace {
thread_local const char* t_op = nullptr;
}

const char* current_op() noexcept {
  return t_op;
}

const char* set_current_op(const char* op) noexcept {
  return std::exchange(t_op, op);
}

}  // namespace minibert
