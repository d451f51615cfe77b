// main.cpp: the functions that libFuzzer calls, for every target.
#include "models/text/unicode.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  if (*count == 3 && std::string_view((*arguments)[1]) == "--seeds") {
    minibert::fuzz::write_seeds((*arguments)[2]);
    std::exit(0);
  }
  minibert::is_white_space(0x2003);  // makes the table of characters, whose second is no input's
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minibert::fuzz::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
