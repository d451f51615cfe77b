// launch_test.cpp: each launcher's variables, those that disagree, and those that are wrong.
#include "dist/launch.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/usage_error.h"

namespace minibert {
namespace {

using Values = std::map<std::string, std::string>;

Launch launched(const Values& values) {
  return launch_of([&](const char* name) {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal_of(const Values& values) {
  return testing::usage_error_of([&] { launched(values); });
}

Values with(Values values, const Values& more) {
  for (const auto& [name, value] : more) values[name] = value;
  return values;
}

/// "by rank/world local/local world master:port run id"
std::string text_of(const Launch& l) {
  return fmt::format("{} {}/{} {}/{} {} {}", l.by, l.rank, l.world, l.local_rank, l.local_world,
                     l.world > 1 ? l.master.str() : "-", l.run_id);
}

// As torchrun --nnodes 2 --nproc-per-node 2 sets them for the last process.
const Values kTorchrun = {{"RANK", "3"},
                          {"WORLD_SIZE", "4"},
                          {"LOCAL_RANK", "1"},
                          {"LOCAL_WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "10.0.0.1"},
                          {"MASTER_PORT", "29400"},
                          {"TORCHELASTIC_RUN_ID", "none"}};
// As mpirun -n 4 on one machine.
const Values kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
// As srun --nodes 2 --ntasks-per-node 2.
const Values kSlurm = {{"SLURM_PROCID", "2"},          {"SLURM_NTASKS", "4"},
                       {"SLURM_STEP_NUM_TASKS", "4"},  {"SLURM_LOCALID", "0"},
                       {"SLURM_NTASKS_PER_NODE", "2"}, {"SLURM_JOB_ID", "70123"},
                       {"SLURM_STEP_ID", "0"},         {"SLURM_STEP_NODELIST", "gpu[007-008]"}};

TEST(Launch, NobodyMeansOneRank) {
  EXPECT_EQ(text_of(launched({})), " 0/1 0/1 - ");
  EXPECT_EQ(text_of(launched({{"RANK", ""}, {"WORLD_SIZE", ""}})), " 0/1 0/1 - ");
  EXPECT_EQ(text_of(launched({{"MASTER_ADDR", "10.0.0.1"}})), " 0/1 0/1 - ");
}

TEST(Launch, EveryLauncherIsUnderstood) {
  EXPECT_EQ(text_of(launched(kTorchrun)), "torchrun 3/4 1/2 10.0.0.1:29400 none");
  EXPECT_EQ(text_of(launched(kOpenMpi)), "Open MPI 2/4 2/4 127.0.0.1:29500 ");
  EXPECT_EQ(text_of(launched(kSlurm)), "srun 2/4 0/2 gpu007:22123 70123.0");
  EXPECT_EQ(text_of(launched({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "::1"}})),
            "RANK 1/2 0/0 [::1]:29500 ");
  EXPECT_EQ(launched({{"MINIBERT_SECRET", "s3"}}).secret, "s3");
  EXPECT_EQ(launched(with(kTorchrun, {{"MINIBERT_RUN_ID", "r7"}})).run_id, "r7");
}

TEST(Launch, VariablesLeadBackToTheLaunchWhateverIsAround) {
  Launch launch{.rank = 1, .world = 4, .local_rank = 1, .local_world = 2, .master = {"::1", 77}};
  launch.run_id = "run 5";
  launch.secret = "s3";
  for (const int listener : {-1, 9})
    for (const Values& around : {Values(), kTorchrun, kOpenMpi, kSlurm}) {
      launch.listener = listener;
      Values values = around;
      for (const std::string& variable : variables_of(launch)) {
        const size_t equals = variable.find('=');
        values[variable.substr(0, equals)] = variable.substr(equals + 1);
      }
      const Launch found = launched(values);
      EXPECT_EQ(text_of(found), "RANK 1/4 1/2 [::1]:77 run 5");
      EXPECT_EQ(found.secret, "s3");
      EXPECT_EQ(found.listener, listener);
    }
}

TEST(Launch, TheMasterVariablesWin) {
  const Values master = {{"MASTER_ADDR", "head"}, {"MASTER_PORT", "1234"}};
  EXPECT_EQ(launched(with(kSlurm, master)).master.str(), "head:1234");
  EXPECT_EQ(launched(with(kOpenMpi, master)).master.str(), "head:1234");
}

TEST(Launch, LeavesMasterPortToTorchrunsAgent) {
  EXPECT_EQ(launched(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}})).master.port,
            29401);
  EXPECT_EQ(launched(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}})).master.port,
            29400);
}

TEST(Launch, FindsSlurmsFirstNode) {
  for (const auto& [list, first] : Values{{"a", "a"},
                                          {"a,b", "a"},
                                          {"n[1,3]", "n1"},
                                          {"n[07-09,12],x", "n07"},
                                          {"n[07-09]-ib,x", "n07-ib"},
                                          {"x,n[1-2]", "x"}})
    EXPECT_EQ(launched(with(kSlurm, {{"SLURM_STEP_NODELIST", list}})).master.host, first) << list;
}

TEST(Launch, TheInnerLauncherCounts) {
  // srun starts one torchrun, or one daemon of mpirun, a node.
  const Values outer = with(kSlurm, {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_EQ(launched(with(outer, kTorchrun)).by, "torchrun");
  EXPECT_EQ(launched(with(outer, kTorchrun)).rank, 3);
  EXPECT_EQ(launched(with(outer, kOpenMpi)).by, "Open MPI");
  EXPECT_EQ(launched(with(kOpenMpi, kTorchrun)).by, "torchrun");
}

TEST(Launch, ABatchScriptOutsideOfSrunIsNoRank) {
  Values script = kSlurm;
  script.erase("SLURM_STEP_ID");
  EXPECT_EQ(launched(script).world, 1);
}

TEST(Launch, VariablesThatDisagreeAreNamedBoth) {
  const Values plain = {{"RANK", "2"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "a"}};
  EXPECT_EQ(launched(with(kSlurm, plain)).by, "srun");
  EXPECT_EQ(launched(with(kOpenMpi, plain)).by, "Open MPI");
  EXPECT_EQ(refusal_of(with(kSlurm, with(plain, {{"RANK", "0"}}))),
            "RANK is 0, but SLURM_PROCID is 2 (srun): two launchers disagree about this process. "
            "Unset one of the two");
  EXPECT_EQ(
      refusal_of(with(kOpenMpi, with(plain, {{"WORLD_SIZE", "8"}}))),
      "WORLD_SIZE is 8, but OMPI_COMM_WORLD_SIZE is 4 (Open MPI): two launchers disagree about "
      "this process. Unset one of the two");
}

TEST(Launch, NamesWhatIsMissingOrWrong) {
  EXPECT_EQ(refusal_of({{"RANK", "0"}}), "RANK is set, but WORLD_SIZE is not: set both or none");
  EXPECT_EQ(refusal_of({{"WORLD_SIZE", "2"}}),
            "WORLD_SIZE is set, but RANK is not: set both or none");
  EXPECT_EQ(refusal_of({{"OMPI_COMM_WORLD_RANK", "0"}}),
            "OMPI_COMM_WORLD_RANK is set, but OMPI_COMM_WORLD_SIZE is not: set both or none");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"RANK", "two"}})),
            "RANK is 'two', expected a whole number from 0");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"WORLD_SIZE", "-4"}})),
            "WORLD_SIZE is '-4', expected a whole number from 0");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"RANK", "4"}})),
            "rank 4 of 4 (torchrun), expected 0 to world size - 1");
  EXPECT_EQ(
      refusal_of(with(kTorchrun, {{"LOCAL_RANK", "2"}})),
      "local rank 2 of 2 on this machine, 4 in all (torchrun): expected local rank < ranks of "
      "the machine <= all");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"MASTER_ADDR", ""}})),
            "there are 4 ranks (torchrun), but MASTER_ADDR is not set. Set it to the name or the "
            "address of rank 0's machine, on every rank");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"MASTER_PORT", "65536"}})),
            "MASTER_PORT is 65536, expected 1 to 65535");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"MASTER_PORT", "0"}})),
            "MASTER_PORT is 0, expected 1 to 65535");
  EXPECT_EQ(refusal_of(with(kSlurm, {{"SLURM_STEP_NODELIST", "n[1"}})),
            "SLURM_STEP_NODELIST is 'n[1', expected a ] after the [");
}

}  // namespace
}  // namespace minibert
