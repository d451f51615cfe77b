// world.cpp: rendezvous and group, and who is to blame if there is no group yet.
#include "dist/world.h"

#include "core/device.h"
#include "core/device_marks.h"
#include "core/error.h"
#include "dist/gloo_group.h"
#include "dist/nccl_group.h"
#include "dist/ring_group.h"
#include "dist/tcp_transport.h"

namespace minibert {
namespace {

bool is_on_gpus(const std::string& backend) {
  return backend == "nccl" || backend == "nccl-ring";
}

std::unique_ptr<ProcessGroup> group_of(Rendezvous& here, const Launch& launch,
                                       const WorldOptions& options, const std::string& backend) {
  const Blame blame = [&here](const std::string& collective) { return here.blame(collective); };
  if (is_on_gpus(backend))
    return nccl_group(here, {.rank = launch.rank,
                             .world = launch.world,
                             .timeout = options.timeout,
                             .blame = blame,
                             .ring = backend == "nccl-ring"});
  if (backend == "gloo")
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

/// Before this process touches any.
void use_a_gpu(const Launch& launch) {
  const int count = cuda_device_count();
  MB_CHECK(count > 0, "nccl: {}", cuda_unavailable_reason());
  cuda_use_device(launch.local_rank % count);
}

}  // namespace

World::World(const Launch& launch, const WorldOptions& options) {
  const std::string& backend = options.backend;
  const bool known = backend == "gloo" || backend == "ring" || is_on_gpus(backend);
  MB_CHECK(known, "backend is '{}', expected gloo, ring, nccl or nccl-ring", backend);
  if (launch.world == 1) {
    group_ = self_group();
    return;
  }
  if (is_on_gpus(backend)) use_a_gpu(launch);
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
    if (is_on_gpus(backend))
      control_ = group_of(*rendezvous_, launch, options, gloo_available() ? "gloo" : "ring");
    group_ = group_of(*rendezvous_, launch, options, backend);
  } catch (const CommError& error) {
    const std::string connecting = "connecting over " + backend;
    fail<CommError>("rank {} of {}: {} failed: {} ({})", launch.rank, launch.world, connecting,
                    rendezvous_->blame(connecting), error.what());
  }
}

}  // namespace minibert
