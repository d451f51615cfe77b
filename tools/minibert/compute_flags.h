// compute_flags.h: --precision and --device of the verbs that use a model: eval, fill-mask, embed.
// The rules about them are those of training (core/precision.h). Test: ctest -R tools_text_verbs.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "core/precision.h"
#include "models/bert/bert.h"

namespace minibert {

struct ComputeFlags {
  std::string precision = "fp32", device = "cpu";

  void add_to(CLI::App& verb) {
    verb.add_option("--precision", precision,
                    "fp32, bf16 or fp16: type of weights and activations (tf32: CUDA only)")
        ->capture_default_str();
    verb.add_option("--device", device, "cpu or cuda")->capture_default_str();
  }
  /// Errors: UsageError for a name that is not one, and for what the device can't do.
  ComputeOptions options() const {
    return compute_options(parse_precision(precision), parse_device(device));
  }
};

}  // namespace minibert
