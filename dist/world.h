// world.h: the ranks of this run, joined by one call: the rendezvous, then the groups of
// collectives: one for gradients and weights, and one for what ranks tell each other from the
// host's memory. On CPUs both are the same; with NCCL the second is Gloo's, or a ring.
// Called by models/training, with what the launcher said (launch.h). A run with one rank touches no
// network. Easy to break: a World lives until its rank's last collective is done, and longest on
// rank 0, which serves the others' question who is to blame. Test: ctest -R dist_world.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dist/launch.h"
#include "dist/process_group.h"
#include "dist/rendezvous.h"

namespace minibert {

struct WorldOptions {
  /// "ring": the one to be read, over TCP. "nccl": on device cuda; the rank uses the GPU of its number
  /// among those of its machine (from 0 again, if there are fewer, which NCCL itself refuses).
  /// "nccl-ring": the same with the one to be read over NCCL's sends and receives.
  std::string backend = "gloo";
  std::vector<Fingerprint> fingerprints = {};  // what must be the same on every rank
  std::string interface = {};                  // by which other ranks reach this one
  double timeout = 60;                         // seconds without progress of a collective
  double start_timeout = 300;                  // seconds for all ranks to come
  std::function<void(const std::string&)> say = [](const std::string&) {};  // from any thread
};

class World {
 public:
  /// Returns when all ranks are here, agree, and are connected. Errors: those of Rendezvous;
  /// CommError if a rank is lost while they connect, naming it.
  World(const Launch& launch, const WorldOptions& options);

  /// A collective that fails throws a CommError that names this rank, the collective and its number,
  /// and the rank to blame.
  ProcessGroup& group() { return *group_; }
  /// For the host's memory.
  ProcessGroup& control() { return control_ ? *control_ : *group_; }
  /// By which other ranks reach this one; empty if there are none.
  std::string address() const { return rendezvous_ ? rendezvous_->address() : ""; }

 private:
  std::unique_ptr<Rendezvous> rendezvous_;  // null: one rank
  std::unique_ptr<ProcessGroup> control_;   // null: group_ does it
  std::unique_ptr<ProcessGroup> group_;     // both ask the rendezvous who is to blame
};

}  // namespace minibert
