// cluster.h: a machine to plan for, and recipes that were run on it: clusters/*.toml, embedded in the
// binary as recipes are, or a file of the user's. Each figure has its source in a comment of its file.
// Read by plan_time.h. Easy to break: units are those of the keys' names, rates are of one device and
// one way. Test: ctest -R training_cluster.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace minibert {

/// Recipes whose published times (published.h) are of this cluster, and what their report leaves open.
struct ClusterRuns {
  std::string title;
  int64_t gradient_bytes = 4;  // of a gradient on the wire
  std::string fit;             // the recipe whose time gives the share of the peak
  std::vector<std::string> recipes;
};

/// Rates in FLOP/s and bytes/s, sizes in bytes, times in seconds.
struct Cluster {
  std::string name, description, device_name;
  double peak_flops = 0, attained_share = 0;
  double memory_bytes = 0, memory_bytes_per_second = 0;
  int64_t devices_a_node = 1;
  double node_bytes_per_second = 0, network_bytes_per_second = 0;  // of a device, a way
  double link_share = 1, latency_seconds = 0;
  ClusterRuns published;  // no recipes: none
};

/// Reads a description; `origin` names it in messages. Errors: UsageError with origin and line:
/// syntax, a key that is unknown (with the nearest), missing, of another type or out of range.
Cluster parse_cluster(std::string_view text, const std::string& origin);
/// One that is built in, by name, or a file that ends in .toml. Errors: UsageError naming the nearest.
Cluster find_cluster(const std::string& name_or_file);
/// Names of those that are built in.
std::vector<std::string> cluster_names();

}  // namespace minibert
