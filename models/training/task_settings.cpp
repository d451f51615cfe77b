// task_settings.cpp: see task_settings.h.
#include "models/training/task_settings.h"

#include <fmt/format.h>

#include "models/training/checkpoint.h"

namespace minibert {

std::vector<std::string> differing_task(const std::filesystem::path& model,
                                        const TaskSettings& now) {
  const std::filesystem::path file = model / "trainer_state.json";
  std::vector<std::string> lines;
  if (!std::filesystem::exists(file)) return lines;
  const auto learnt = parse_trainer_state(read_text(file), file.string()).settings.run;
  for (const auto& [flag, value] : now) {
    const auto found = learnt.find(flag);
    if (found != learnt.end() && found->second != value)
      lines.push_back(fmt::format("the model learnt with {} {} ({}) and is scored with {}", flag,
                                  found->second, file.string(), value));
  }
  return lines;
}

}  // namespace minibert
