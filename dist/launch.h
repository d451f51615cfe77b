// launch.h: which rank this process is, from the environment that a launcher gave it.
//
//   launcher      rank                    world                    on this machine             master
//   torchrun,     RANK                    WORLD_SIZE               LOCAL_RANK,                 MASTER_ADDR,
//   shell loops                                                    LOCAL_WORLD_SIZE            MASTER_PORT
//   Open MPI      OMPI_COMM_WORLD_RANK    OMPI_COMM_WORLD_SIZE     OMPI_COMM_WORLD_LOCAL_RANK, or this machine, if
//                                                                  ..._LOCAL_SIZE              all ranks are on it
//   srun          SLURM_PROCID            SLURM_STEP_NUM_TASKS     SLURM_LOCALID               or the step's first
//                                                                                              node
//
// MASTER_ADDR and MASTER_PORT win wherever they are set. Under several launchers the inner one
// counts: torchrun (it sets TORCHELASTIC_RUN_ID), then Open MPI, then srun, since torchrun and mpirun
// are themselves started by srun, which then describes them and not the ranks. RANK and WORLD_SIZE
// without torchrun are somebody's wish: where a launcher says something else, that is an error that
// names both. In a batch script outside of srun, Slurm's variables describe the job, not a rank;
// they count only where SLURM_STEP_ID is set.
//
// torchrun's agent listens at MASTER_PORT itself (TORCHELASTIC_USE_AGENT_STORE): we take the next one.
// MINIBERT_SECRET is the secret of the rendezvous, MINIBERT_RUN_ID its run id. MINIBERT_LISTENER is set
// by spawn.h alone: the number of a file on which rank 0 finds its port open.
// Called by world.h's users; variables_of() by spawn.cpp. Easy to break: an empty variable is unset.
// Test: ctest -R dist_launch.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dist/socket.h"

namespace minibert {

struct Launch {
  std::string by = {};  // "torchrun", "RANK", "Open MPI", "srun"; empty: nobody, one rank
  int rank = 0, world = 1;
  int local_rank = 0;    // among those of this machine: its GPU
  int local_world = 1;   // 0: not known
  Endpoint master = {};  // where the ranks meet; empty if there is one
  std::string run_id = {}, secret = {};
  int listener = -1;  // on rank 0: a file number, if its port is open already
};

/// The value of a variable, or null: std::getenv, or a test's.
using Environment = std::function<const char*(const char*)>;

/// Errors: UsageError, naming variables and values: one is missing, is no number, is out of range, or
/// two disagree.
Launch launch_of(const Environment& environment);
/// Of this process.
Launch launch_here();
/// The way back: variables, as "NAME=value", with which launch_of() finds this launch in a process,
/// whatever else an outer launcher has set.
std::vector<std::string> variables_of(const Launch& launch);

}  // namespace minibert
