// operand.cpp: the error of Operand::data.
#include "core/operand.h"

#include "core/error.h"

namespace minibert {

void Operand::type_mismatch(DType asked) const {
  fail<InternalError>(
      "kernel operand of rank {} with {} elements: read as {}, but it is {}. This is a bug in "
      "minibert: please report it",
      axes, numel(), name_of(asked), name_of(type));
}

}  // namespace minibert
