// symbols.cpp: looks addresses up in the symbol table of the running binary, which is mapped, not
// read: a look-up touches the table alone. Source: ELF-64 object file format, version 1.5.
// Test: ctest -R simt_engine_launch.
#include "tools/simt/symbols.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace simt {
namespace {

/// The binary's file in memory; null if it can't be mapped.
const char* map_binary() {
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (file < 0) return nullptr;
  struct stat status = {};
  void* image = MAP_FAILED;
  if (fstat(file, &status) == 0)
    image = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  return image == MAP_FAILED ? nullptr : static_cast<const char*>(image);
}

/// How far the binary lies from where it was linked to.
uint64_t load_address() {
  uint64_t address = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        *static_cast<uint64_t*>(result) = info->dlpi_addr;
        return 1;  // the first is the program itself
      },
      &address);
  return address;
}

/// The mangled name of the function that starts there; null if there is none.
const char* find_symbol(uint64_t function) {
  static const char* image = map_binary();
  if (!image) return nullptr;
  const auto& header = *reinterpret_cast<const Elf64_Ehdr*>(image);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image + header.e_shoff);
  const uint64_t wanted = function - load_address();
  for (int i = 0; i < header.e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(image + sections[i].sh_offset);
    const char* names = image + sections[sections[i].sh_link].sh_offset;
    for (uint64_t n = 0; n < sections[i].sh_size / sizeof(Elf64_Sym); ++n)
      if (symbols[n].st_value == wanted && ELF64_ST_TYPE(symbols[n].st_info) == STT_FUNC)
        return names + symbols[n].st_name;
  }
  return nullptr;
}

void erase_all(std::string& text, const std::string& what) {
  for (size_t at; (at = text.find(what)) != std::string::npos;) text.erase(at, what.size());
}

/// The demangled name without what stands before and behind: result type, namespaces, parameters.
std::string shortened(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (status != 0) return mangled;
  std::string name = text;
  std::free(text);
  erase_all(name, "(anonymous namespace)::");
  int depth = 0;  // of < >
  size_t begin = 0, end = name.size();
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (depth) continue;
    if (name[i] == ' ' || name[i] == ':') begin = i + 1;
    if (name[i] == '(') {
      end = i;
      break;
    }
  }
  name = name.substr(begin, end - begin);
  erase_all(name, "minibert::");
  return name;
}

}  // namespace

std::string symbol_name(const void* function) {
  static std::unordered_map<const void*, std::string> known;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::string& name = known[function];
  if (!name.empty()) return name;
  if (const char* symbol = find_symbol(reinterpret_cast<uint64_t>(function))) {
    name = shortened(symbol);
  } else {
    char text[40];
    std::snprintf(text, sizeof text, "kernel at %p", function);
    name = text;
  }
  return name;
}

}  // namespace simt

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  if (!name) return cudaErrorInvalidValue;
  *name = simt::find_symbol(reinterpret_cast<uint64_t>(function));
  return *name ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}
