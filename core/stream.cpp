// stream.cpp: two variables a thread.
#include "core/stream.h"

namespace minibert {
namespace {
thread_local Stream t_stream;
thread_local bool t_tf32 = false;
}  // namespace

Stream current_stream() {
  return t_stream;
}

bool tf32_allowed() {
  return t_tf32;
}

TensorFloat32Scope::TensorFloat32Scope(bool allowed) : before_(t_tf32) {
  t_tf32 = allowed;
}

TensorFloat32Scope::~TensorFloat32Scope() {
  t_tf32 = before_;
}

StreamScope::StreamScope(Stream stream) : before_(t_stream) {
  t_stream = stream;
}

StreamScope::~StreamScope() {
  t_stream = before_;
}

}  // namespace minibert
