// world.cpp: rendezvous and group, and who is to blame if there is no group yet.
#include "dist/world.h"

#include "core/error.h"
#include "dist/gloo_group.h"
#include "dist/ring_group.h"
#include "dist/tcp_transport.h"

namespace minibert {
namespace {

std::unique_ptr<ProcessGroup> group_of(Rendezvous& here, const Launch& launch,
                                       const WorldOptions& options) {
  const Blame blame = [&here](const std::string& collective) { return here.blame(collective); };
  if (options.backend == "gloo")
    return gloo_group(here, {.rank = launch.rank,
                             .world = launch.world,
                             .address = here.address(),
                             .timeout = options.timeout,
                             .blame = blame});
  return std::make_unique<RingGroup>(tcp_transport(here, {.rank = launch.rank,
                                                          .world = launch.world,
                                                          .address = here.address(),
                                                          .timeout = options.timeout}),
                                     blame);
}

}  // namespace

World::World(const Launch& launch, const WorldOptions& options) {
  const bool known = options.backend == "gloo" || options.backend == "ring";
  MB_CHECK(known, "backend is '{}', expected gloo or ring", options.backend);
  if (launch.world == 1) {
    group_ = self_group();
    return;
  }
  raise_file_limit();
  rendezvous_ = std::make_unique<Rendezvous>(RendezvousOptions{.rank = launch.rank,
                                                               .world = launch.world,
                                                               .master = launch.master,
                                                               .listener = launch.listener,
                                                               .run_id = launch.run_id,
                                                               .secret = launch.secret,
                                                               .fingerprints = options.fingerprints,
                                                               .interface = options.interface,
                                                               .timeout = options.start_timeout,
                                                               .say = options.say});
  try {
    group_ = group_of(*rendezvous_, launch, options);
  } catch (const CommError& error) {
    const std::string connecting = "connecting over " + options.backend;
    fail<CommError>("rank {} of {}: {} failed: {} ({})", launch.rank, launch.world, connecting,
                    rendezvous_->blame(connecting), error.what());
  }
}

}  // namespace minibert
