// seven_bit.h: letters of other scripts written with ASCII's bytes: ISO-2022-JP, -KR and -CN (RFC 1468,
// 1557, 1922), HZ (RFC 1843) and UTF-7 (RFC 2152). Such a file is well-formed UTF-8, so that nothing
// else tells that its words are lost. Called by models/text/text_reader.cpp for each line of ASCII.
// Easy to break: "C++", base64, URLs and Lisp's format strings hold the same marks and are ASCII.
// Test: ctest -R seven_bit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace minibert {

class SevenBitMarks {
 public:
  /// `line` holds ASCII alone. Returns whether anything in it was a mark.
  bool look(std::string_view line);
  /// The encoding as iconv and Python name it; "" if the lines so far are ASCII.
  std::string encoding() const;

 private:
  void look_for_escapes(std::string_view line);
  void look_for_hz(std::string_view line);
  void look_for_utf7(std::string_view line);

  std::string escapes_;                     // the encoding of the first ESC $
  int64_t hz_ = 0, utf7_ = 0;               // characters; runs, of those that are well-formed
  bool not_hz_ = false, not_utf7_ = false;  // a run was ill-formed
};

}  // namespace minibert
