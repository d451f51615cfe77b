// stream.cpp: one variable a thread.
#include "core/stream.h"

namespace minibert {
namespace {
thread_local Stream t_stream;
}

Stream current_stream() {
  return t_stream;
}

StreamScope::StreamScope(Stream stream) : before_(t_stream) {
  t_stream = stream;
}

StreamScope::~StreamScope() {
  t_stream = before_;
}

}  // namespace minibert
