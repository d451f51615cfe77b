// report_output.h: where the verbs report and compare write their page. Easy to break: a file that is
// no page of ours is never overwritten. Test: ctest -R report.
#pragma once

#include <filesystem>
#include <string>

namespace minibert {

/// Errors: UsageError if the output is there and is no page of ours.
void check_report_output(const std::filesystem::path& output);
/// Errors: DataError naming the file (folder missing, no permission, disk full).
void write_report(const std::filesystem::path& output, const std::string& page);

}  // namespace minibert
