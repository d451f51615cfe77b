// safetensors.cpp: reads a header without trusting it, and writes one.
#include "models/bert/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "models/text/atomic_file.h"
#include "models/text/json_depth.h"

namespace minibert {
namespace {

using nlohmann::json;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kConvertElements = 1 << 16;       // read and converted at a time

struct FileDtype {
  const char* name;
  uint64_t bytes;
};
constexpr FileDtype kDtypes[] = {
    {"F64", 8},  {"I64", 8},     {"U64", 8},     {"F32", 4},     {"I32", 4},  {"U32", 4},
    {"BF16", 2}, {"F16", 2},     {"I16", 2},     {"U16", 2},     {"BOOL", 1}, {"U8", 1},
    {"I8", 1},   {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"C64", 8}};

/// Bytes of an element, 0 for an unknown dtype.
uint64_t element_bytes(const std::string& dtype) {
  for (const FileDtype& known : kDtypes) {
    if (dtype == known.name) return known.bytes;
  }
  return 0;
}

const char* file_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::i32:
      return "I32";
    case DType::u8:
      return "U8";
  }
  return "";
}

/// Builds the value of a header whose objects must not hold a key twice (nlohmann's own builder keeps the last
/// value; with a callback it looks through all values of an object after each, a square of the tensors).
class HeaderBuilder : public nlohmann::json_sax<json> {
 public:
  explicit HeaderBuilder(const std::string& path) : path_(path) {}
  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string& /*as_written*/) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(json::binary_t& value) override { return add(std::move(value)); }
  bool start_object(size_t /*size*/) override { return open(json::object()); }
  bool start_array(size_t /*size*/) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    const auto [place, is_new] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    MB_CHECK_AS(DataError, is_new, "{}: the header has the key \"{}\" twice, expected once", path_,
                name);
    member_ = &place->second;
    return true;
  }
  bool parse_error(size_t /*at*/, const std::string& /*token*/,
                   const json::exception& error) override {
    fail<DataError>(
        "{}: the header is not JSON ({}). The file is damaged or not a safetensors file", path_,
        error.what());
  }

 private:
  json& place(json value) {
    if (open_.empty()) return root_ = std::move(value);
    if (open_.back()->is_array()) return open_.back()->emplace_back(std::move(value));
    return *member_ = std::move(value);
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json value) {
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& path_;
  json root_;
  std::vector<json*> open_;  // objects and lists, the outermost first
  json* member_ = nullptr;   // of the innermost object: where the value of its last key belongs
};

json parse_header(const std::string& path, const std::string& text) {
  check_json_depth(text, path);
  check_json_size(text, path);
  HeaderBuilder builder(path);
  json::sax_parse(text, &builder);
  return builder.take();
}

bool is_size(const json& value) {
  return value.is_number_unsigned();
}

/// Product of the dimensions, or -1 if it does not fit into 63 bits.
int64_t product(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t dim : shape) {
    if (__builtin_mul_overflow(n, dim, &n)) return -1;
  }
  return n;
}

SafetensorsEntry parse_entry(const std::string& path, const std::string& name, const json& value) {
  MB_CHECK_AS(DataError,
              value.is_object() && value.contains("dtype") && value.contains("shape") &&
                  value.contains("data_offsets"),
              "{}: tensor {} lacks \"dtype\", \"shape\" or \"data_offsets\". The file is damaged",
              path, name);
  const json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
  MB_CHECK_AS(DataError, dtype.is_string() && element_bytes(dtype.get<std::string>()) > 0,
              "{}: tensor {} has dtype {}, expected F32, BF16, F16, F64, I64, I32, U8, BOOL or "
              "another of the format's",
              path, name, dtype.dump());
  MB_CHECK_AS(
      DataError,
      shape.is_array() && std::all_of(shape.begin(), shape.end(), is_size) && shape.size() <= 64,
      "{}: tensor {} has shape {}, expected a list of sizes", path, name, shape.dump());
  MB_CHECK_AS(
      DataError,
      offsets.is_array() && offsets.size() == 2 && is_size(offsets[0]) && is_size(offsets[1]),
      "{}: tensor {} has data_offsets {}, expected [begin, end]", path, name, offsets.dump());
  SafetensorsEntry entry{
      name, dtype.get<std::string>(), {}, offsets[0].get<uint64_t>(), offsets[1].get<uint64_t>()};
  for (const json& dim : shape) {
    MB_CHECK_AS(DataError, dim.get<uint64_t>() <= uint64_t{INT64_MAX},
                "{}: tensor {} has shape {}, which no file can hold", path, name, shape.dump());
    entry.shape.push_back(static_cast<int64_t>(dim.get<uint64_t>()));
  }
  return entry;
}

/// Bytes that an entry needs by dtype and shape, computed without overflow.
uint64_t wanted_bytes(const std::string& path, const SafetensorsEntry& entry) {
  const int64_t n = product(entry.shape);
  uint64_t bytes = 0;
  MB_CHECK_AS(
      DataError,
      n >= 0 &&
          !__builtin_mul_overflow(static_cast<uint64_t>(n), element_bytes(entry.dtype), &bytes),
      "{}: tensor {} has shape {}, which no file can hold", path, entry.name, entry.shape_str());
  return bytes;
}

void check_ranges(const std::string& path, const std::vector<SafetensorsEntry>& entries,
                  uint64_t data_bytes) {
  uint64_t next = 0;
  for (const SafetensorsEntry& entry : entries) {
    const uint64_t wanted = wanted_bytes(path, entry);
    MB_CHECK_AS(DataError, entry.begin == next,
                "{}: tensor {} starts at byte {} of the data, expected {} (no holes, no overlaps). "
                "The file is damaged",
                path, entry.name, entry.begin, next);
    MB_CHECK_AS(DataError, entry.end >= entry.begin && entry.end - entry.begin == wanted,
                "{}: tensor {} covers bytes {} to {}, expected {} bytes for {} {}. The file is "
                "damaged",
                path, entry.name, entry.begin, entry.end, wanted, entry.dtype, entry.shape_str());
    MB_CHECK_AS(DataError, entry.end <= data_bytes,
                "{}: tensor {} ends at byte {} of the data, but the file has only {}. The file is "
                "truncated: copy or download it again",
                path, entry.name, entry.end, data_bytes);
    next = entry.end;
  }
  MB_CHECK_AS(DataError, next == data_bytes,
              "{}: the tensors cover {} bytes, but the file has {} bytes of data. The file is "
              "damaged",
              path, next, data_bytes);
}

std::string system_reason() {
  return std::strerror(errno);
}

}  // namespace

int64_t SafetensorsEntry::numel() const {
  return product(shape);
}

std::string SafetensorsEntry::shape_str() const {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  MB_CHECK_AS(DataError, descriptor >= 0, "{}: cannot be opened ({})", path, system_reason());
  descriptor_ = std::shared_ptr<int>(new int(descriptor), [](int* fd) {
    ::close(*fd);
    delete fd;
  });
  struct stat status {};
  MB_CHECK_AS(DataError, ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode),
              "{}: is not a regular file", path);
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  MB_CHECK_AS(DataError, file_bytes >= 8,
              "{}: has {} bytes, expected at least the 8 of a safetensors file's header length",
              path, file_bytes);
  const SafetensorsEntry whole{"(header)", "U8", {}, 0, file_bytes};
  std::string start(std::min<uint64_t>(file_bytes, 64), '\0');
  read_bytes(whole, 0, start.data(), start.size());
  refuse_lfs_pointer(start, path, file_bytes);
  MB_CHECK_AS(DataError, !start.starts_with("PK\x03\x04") && !start.starts_with("\x80\x02"),
              "{}: is a file of PyTorch, expected one of safetensors. Name it pytorch_model.bin: "
              "then there is a message with the command that converts it",
              path);
  uint64_t header_bytes = 0;  // little-endian, as is every machine this runs on
  std::memcpy(&header_bytes, start.data(), 8);
  MB_CHECK_AS(DataError, header_bytes <= kMaxHeaderBytes && header_bytes <= file_bytes - 8,
              "{}: the header's length is {} bytes, expected at most {} (the file has {}). The "
              "file is truncated, damaged or not a safetensors file",
              path, header_bytes, std::min(kMaxHeaderBytes, file_bytes - 8), file_bytes);
  std::string text(header_bytes, '\0');
  read_bytes(whole, 8, text.data(), header_bytes);
  data_start_ = 8 + header_bytes;

  const json header = parse_header(path, text);
  MB_CHECK_AS(DataError, header.is_object(), "{}: the header is not a JSON object", path);
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries_.push_back(parse_entry(path, name, value));
      continue;
    }
    if (value.is_null()) continue;  // as the library reads it: no metadata
    MB_CHECK_AS(DataError, value.is_object(),
                "{}: __metadata__ is {}, expected an object of texts or null", path, value.dump());
    for (const auto& [key, text_value] : value.items()) {
      MB_CHECK_AS(DataError, text_value.is_string(), "{}: __metadata__ \"{}\" is {}, expected text",
                  path, key, text_value.dump());
      metadata_[key] = text_value.get<std::string>();
    }
  }
  std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_ranges(path, entries_, file_bytes - data_start_);
  for (size_t i = 0; i < entries_.size(); ++i) by_name_[entries_[i].name] = i;
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

const SafetensorsEntry& SafetensorsFile::require(const std::string& name) const {
  const SafetensorsEntry* entry = find(name);
  MB_CHECK_AS(DataError, entry, "{}: tensor {} is missing", path_, name);
  return *entry;
}

void SafetensorsFile::read_bytes(const SafetensorsEntry& entry, uint64_t from, void* out,
                                 size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(*descriptor_, static_cast<char*>(out) + done, bytes - done,
                                static_cast<off_t>(data_start_ + entry.begin + from + done));
    if (got < 0 && errno == EINTR) continue;
    MB_CHECK_AS(DataError, got >= 0, "{}: tensor {} cannot be read ({})", path_, entry.name,
                system_reason());
    MB_CHECK_AS(DataError, got > 0, "{}: tensor {} ends early: the file shrank while it was read",
                path_, entry.name);
    done += static_cast<size_t>(got);
  }
}

Tensor SafetensorsFile::read(const std::string& name, MemoryCategory category) const {
  const SafetensorsEntry& entry = require(name);
  MB_CHECK_AS(DataError, entry.shape.size() <= Shape::kMaxRank,
              "{}: tensor {} is {}, expected at most {} dimensions", path_, name, entry.shape_str(),
              Shape::kMaxRank);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i32, DType::u8}) {
    const bool is_bool = dtype == DType::u8 && entry.dtype == "BOOL";
    if (entry.dtype != file_dtype(dtype) && !is_bool) continue;
    Tensor tensor = Tensor::empty(Shape(std::span<const int64_t>(entry.shape)), dtype, category);
    read_bytes(entry, 0, tensor.raw(), static_cast<size_t>(tensor.bytes()));
    return tensor;
  }
  fail<DataError>("{}: tensor {} has dtype {}, expected F32, BF16, F16, I32, U8 or BOOL", path_,
                  name, entry.dtype);
}

namespace {

/// Reads `count` elements of type From through a small buffer and hands each to `put`.
template <typename From, typename Read, typename Put>
void convert(size_t count, const Read& read, const Put& put) {
  std::vector<From> buffer(std::min(count, kConvertElements));
  for (size_t first = 0; first < count; first += buffer.size()) {
    const size_t n = std::min(buffer.size(), count - first);
    read(first * sizeof(From), buffer.data(), n * sizeof(From));
    for (size_t i = 0; i < n; ++i) put(first + i, buffer[i]);
  }
}

}  // namespace

void SafetensorsFile::read_f32(const std::string& name, std::span<float> out) const {
  const SafetensorsEntry& entry = require(name);
  MB_CHECK_AS(DataError, entry.numel() == static_cast<int64_t>(out.size()),
              "{}: tensor {} is {}, expected {} elements", path_, name, entry.shape_str(),
              out.size());
  const auto read = [&](size_t from, void* to, size_t bytes) {
    read_bytes(entry, from, to, bytes);
  };
  const auto put_float = [&](size_t i, auto x) { out[i] = to_float(x); };
  if (entry.dtype == "F32") return read(0, out.data(), out.size_bytes());
  if (entry.dtype == "BF16") return convert<bf16>(out.size(), read, put_float);
  if (entry.dtype == "F16") return convert<f16>(out.size(), read, put_float);
  MB_CHECK_AS(DataError, entry.dtype == "F64",
              "{}: tensor {} is {}, expected F32, F16, BF16 or F64", path_, name, entry.dtype);
  convert<double>(out.size(), read, [&](size_t i, double x) { out[i] = static_cast<float>(x); });
}

std::vector<int64_t> SafetensorsFile::read_integers(const std::string& name) const {
  const SafetensorsEntry& entry = require(name);
  std::vector<int64_t> out(static_cast<size_t>(entry.numel()));
  const auto read = [&](size_t from, void* to, size_t bytes) {
    read_bytes(entry, from, to, bytes);
  };
  const auto put = [&](size_t i, auto x) { out[i] = static_cast<int64_t>(x); };
  if (entry.dtype == "I64") {
    convert<int64_t>(out.size(), read, put);
  } else if (entry.dtype == "I32") {
    convert<int32_t>(out.size(), read, put);
  } else {
    MB_CHECK_AS(DataError, entry.dtype == "U8", "{}: tensor {} is {}, expected I64, I32 or U8",
                path_, name, entry.dtype);
    convert<uint8_t>(out.size(), read, put);
  }
  return out;
}

namespace {

/// A file written from front to back; every failure names the path and the reason.
class Writer {
 public:
  explicit Writer(const std::string& path)
      : path_(path),
        descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    check(descriptor_ >= 0, "created");
  }
  ~Writer() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void write(const void* data, size_t bytes) {
    sum_.add(data, bytes);
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(descriptor_, from, bytes);
      if (n < 0 && errno == EINTR) continue;
      check(n > 0, "written");
      from += n;
      bytes -= static_cast<size_t>(n);
    }
  }
  FileSum finish() {
    check(::fsync(descriptor_) == 0, "flushed to the disk");
    const int descriptor = descriptor_;
    descriptor_ = -1;
    check(::close(descriptor) == 0, "closed");
    return sum_;
  }

 private:
  void check(bool done, const char* what) const {
    MB_CHECK_AS(CheckpointError, done,
                "{}: cannot be {} ({}). Check free space and permissions of the folder", path_,
                what, system_reason());
  }
  std::string path_;
  int descriptor_;
  FileSum sum_;
};

}  // namespace

FileSum write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& named : tensors) {
    MB_CHECK(named.tensor.defined(), "{}: tensor {} is undefined", path, named.name);
    order.push_back(&named);
  }
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return size_of(a->tensor.dtype()) > size_of(b->tensor.dtype());
  });

  json header = json::object();
  header["__metadata__"] = metadata;
  if (!metadata.contains("format")) header["__metadata__"]["format"] = "pt";
  int64_t begin = 0;
  for (const NamedTensor* named : order) {
    const Tensor& tensor = named->tensor;
    MB_CHECK(!header.contains(named->name), "{}: tensor {} is given twice", path, named->name);
    json shape = json::array();
    for (int axis = 0; axis < tensor.rank(); ++axis) shape.push_back(tensor.dim(axis));
    header[named->name] = {{"dtype", file_dtype(tensor.dtype())},
                           {"shape", shape},
                           {"data_offsets", {begin, begin + tensor.bytes()}}};
    begin += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts on a multiple of 8

  Writer file(path);
  const uint64_t header_bytes = text.size();
  file.write(&header_bytes, 8);
  file.write(text.data(), text.size());
  for (const NamedTensor* named : order) {
    file.write(named->tensor.raw(), static_cast<size_t>(named->tensor.bytes()));
  }
  return file.finish();
}

}  // namespace minibert
