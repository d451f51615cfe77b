// device.cpp: device names.
#include "core/device.h"

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {

const char* name_of(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

Device parse_device(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if (name == "cuda") return Device::cuda;
  fail<UsageError>("device is \"{}\", expected cpu or cuda.{}", name,
                   did_you_mean(name, {"cpu", "cuda"}));
}

}  // namespace minibert
