// event_file.h: TensorBoard's event files: records with checksums, in them Event messages, in these
// scalars. Written by tensorboard.cpp. A file holds
//   record   uint64 length, uint32 masked CRC-32C of those 8 bytes, the message, uint32 masked
//            CRC-32C of the message; all little-endian
//   mask     ((crc >> 15) | (crc << 17)) + 0xa282ead8, modulo 2^32
//   message  Event {1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary,
//            7: SessionLog}; Summary {1: repeated Value}; Value {1: string tag, 2: float
//            simple_value}; SessionLog {1: status, 1 = START}
// in protocol buffers' encoding: a varint of field number * 8 + wire type before each field (types:
// 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).
// Easy to break: the first record of a file must be file_version "brain.Event:2"; without it readers
// fall back to another rule for steps that come twice. Test: ctest -R event_file.
// Source: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto,
// tensorflow/core/lib/io/record_writer.h; CRC-32C: RFC 3720, appendix B.4.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minibert {

/// CRC-32 with Castagnoli's polynomial.
uint32_t crc32c(std::string_view bytes);

/// Values of one step, by tag.
struct ScalarEvent {
  double wall_time = 0;  // seconds since 1970
  int64_t step = 0;
  std::vector<std::pair<std::string, float>> scalars;
  bool operator==(const ScalarEvent&) const = default;
};

/// Records, as they stand in a file.
std::string version_record(double wall_time);
/// Tells readers to forget what earlier files of the folder have from `step` on.
std::string start_record(double wall_time, int64_t step);
std::string scalar_record(const ScalarEvent& event);

/// A record that was read: where it ends, and its message. Events without scalars have none here.
struct EventRecord {
  size_t end = 0;  // in the file, bytes
  ScalarEvent event;
};

/// The records of a file's bytes up to the first that is cut or damaged.
std::vector<EventRecord> read_events(std::string_view bytes);

}  // namespace minibert
