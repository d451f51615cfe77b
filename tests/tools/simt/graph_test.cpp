// graph_test.cpp: capturing streams into graphs, replaying them, and what a capture forbids.
// Codes of illegal calls are those of the manual's texts on each error, driver_types.h.
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/tools/simt/support.h"

namespace simt {
namespace {

class Graphs : public FreshDevice {
 protected:
  Graphs() {
    for (cudaStream_t* made : {&one_, &two_, &three_})
      EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(made, cudaStreamNonBlocking));
    for (cudaEvent_t* made : {&fork_, &join_})
      EXPECT_EQ(cudaSuccess, cudaEventCreateWithFlags(made, cudaEventDisableTiming));
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_OK(cudaStreamBeginCapture(one_, mode));
  }
  cudaGraph_t end() {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaSuccess, cudaStreamEndCapture(one_, &graph));
    return graph;
  }
  cudaGraphExec_t instantiate(cudaGraph_t graph) {
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
    return exec;
  }
  void note(cudaStream_t where, char letter) {
    enqueue(where, std::string(1, letter), [this, letter] { order_ += letter; });
  }
  /// From stream `from` on, `to` comes after what is in `from` now.
  void order(cudaStream_t from, cudaStream_t to, cudaEvent_t event) {
    EXPECT_CUDA(cudaSuccess, cudaEventRecord(event, from));
    EXPECT_CUDA(cudaSuccess, cudaStreamWaitEvent(to, event, 0));
  }
  /// Ends a capture that something made invalid.
  void expect_invalidated() {
    cudaStreamCaptureStatus status{};
    EXPECT_CUDA(cudaSuccess, cudaStreamIsCapturing(one_, &status));
    EXPECT_EQ(cudaStreamCaptureStatusInvalidated, status);
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(one_, &graph));
    EXPECT_EQ(nullptr, graph);
    EXPECT_CUDA(cudaSuccess, cudaStreamIsCapturing(one_, &status));
    EXPECT_EQ(cudaStreamCaptureStatusNone, status);
    cudaGetLastError();
  }

  cudaStream_t one_, two_, three_;
  cudaEvent_t fork_, join_;
  std::string order_;
};

TEST_F(Graphs, CaptureRunsNothingAndReplaysRunAll) {
  begin();
  note(one_, 'a');
  note(one_, 'b');
  cudaStreamCaptureStatus status{};
  ASSERT_OK(cudaStreamIsCapturing(one_, &status));
  EXPECT_EQ(cudaStreamCaptureStatusActive, status);
  const cudaGraph_t graph = end();
  EXPECT_EQ("", order_);
  const cudaGraphExec_t exec = instantiate(graph);
  ASSERT_OK(cudaGraphDestroy(graph));
  EXPECT_EQ("", order_);
  ASSERT_OK(cudaGraphLaunch(exec, two_));
  ASSERT_OK(cudaGraphLaunch(exec, two_));
  ASSERT_OK(cudaStreamSynchronize(two_));
  EXPECT_EQ("abab", order_);
  note(one_, 'c');
  EXPECT_EQ("ababc", order_) << "the stream is an ordinary one again";
  ASSERT_OK(cudaGraphExecDestroy(exec));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaGraphLaunch(exec, two_));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaGraphDestroy(graph));
}

TEST_F(Graphs, ReplayReadsMemoryAnew) {
  const Pinned<int> host(1);
  const OnDevice<int> device(1);
  begin();
  ASSERT_OK(cudaMemcpyAsync(device.get(), host.get(), 4, cudaMemcpyHostToDevice, one_));
  enqueue(one_, "double", [p = device.get()] { *p *= 2; });
  ASSERT_OK(cudaMemcpyAsync(host.get(), device.get(), 4, cudaMemcpyDeviceToHost, one_));
  const cudaGraphExec_t exec = instantiate(end());
  for (int value : {3, 10}) {
    host[0] = value;
    ASSERT_OK(cudaGraphLaunch(exec, one_));
    ASSERT_OK(cudaStreamSynchronize(one_));
    EXPECT_EQ(2 * value, host[0]);
  }
}

TEST_F(Graphs, NodesAreOfTheirKinds) {
  const Pinned<int> host(1);
  const OnDevice<int> device(1);
  begin();
  ASSERT_OK(cudaMemsetAsync(device.get(), 0, 4, one_));
  note(one_, 'a');
  ASSERT_OK(cudaMemcpyAsync(host.get(), device.get(), 4, cudaMemcpyDeviceToHost, one_));
  ASSERT_OK(cudaLaunchHostFunc(
      one_, [](void*) {}, nullptr));
  const cudaGraph_t graph = end();
  size_t count = 0;
  ASSERT_OK(cudaGraphGetNodes(graph, nullptr, &count));
  ASSERT_EQ(4u, count);
  cudaGraphNode_t nodes[5];
  count = 5;
  ASSERT_OK(cudaGraphGetNodes(graph, nodes, &count));
  EXPECT_EQ(4u, count);
  EXPECT_EQ(nullptr, nodes[4]);
  const cudaGraphNodeType expected[] = {cudaGraphNodeTypeMemset, cudaGraphNodeTypeKernel,
                                        cudaGraphNodeTypeMemcpy, cudaGraphNodeTypeHost};
  for (int i = 0; i < 4; ++i) {
    cudaGraphNodeType type{};
    ASSERT_OK(cudaGraphNodeGetType(nodes[i], &type));
    EXPECT_EQ(expected[i], type);
  }
}

TEST_F(Graphs, EventsForkAndJoin) {
  begin();
  note(one_, 'a');
  order(one_, two_, fork_);
  note(two_, 'b');
  note(one_, 'c');
  order(two_, one_, join_);
  note(one_, 'd');
  const cudaGraph_t graph = end();
  size_t edges = 0;
  ASSERT_OK(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges));
  EXPECT_EQ(4u, edges) << "a-b, a-c, b-d, c-d";
  cudaStreamCaptureStatus status{};
  ASSERT_OK(cudaStreamIsCapturing(two_, &status));
  EXPECT_EQ(cudaStreamCaptureStatusNone, status) << "all streams leave the capture";

  const cudaGraphExec_t exec = instantiate(graph);
  std::set<std::string> orders;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    set_schedule(Schedule::random, seed);
    order_.clear();
    ASSERT_OK(cudaGraphLaunch(exec, one_));
    ASSERT_OK(cudaStreamSynchronize(one_));
    orders.insert(order_);
  }
  EXPECT_EQ((std::set<std::string>{"abcd", "acbd"}), orders);
}

TEST_F(Graphs, LaunchesOfOneGraphDoNotOverlap) {
  set_schedule(Schedule::lazy);
  begin();
  note(one_, 'a');
  const cudaGraphExec_t exec = instantiate(end());
  note(two_, 'x');
  ASSERT_OK(cudaGraphLaunch(exec, two_));
  ASSERT_OK(cudaGraphLaunch(exec, three_));
  ASSERT_OK(cudaGraphExecDestroy(exec));  // queued launches keep what they need
  ASSERT_OK(cudaStreamSynchronize(three_));
  EXPECT_EQ("xaa", order_);
}

TEST_F(Graphs, GraphInAGraph) {
  begin();
  note(one_, 'a');
  const cudaGraphExec_t inner = instantiate(end());
  begin();
  note(one_, 'x');
  ASSERT_OK(cudaGraphLaunch(inner, one_));
  const cudaGraph_t outer = end();
  cudaGraphNode_t nodes[2];
  size_t count = 2;
  ASSERT_OK(cudaGraphGetNodes(outer, nodes, &count));
  cudaGraphNodeType type{};
  ASSERT_OK(cudaGraphNodeGetType(nodes[1], &type));
  EXPECT_EQ(cudaGraphNodeTypeGraph, type);
  ASSERT_OK(cudaGraphLaunch(instantiate(outer), two_));
  ASSERT_OK(cudaDeviceSynchronize());
  EXPECT_EQ("xa", order_);
}

TEST_F(Graphs, UpdateNeedsTheSameShape) {
  begin();
  note(one_, 'a');
  const cudaGraphExec_t exec = instantiate(end());
  begin();
  note(one_, 'b');
  const cudaGraph_t similar = end();
  begin();
  note(one_, 'c');
  note(one_, 'd');
  const cudaGraph_t longer = end();
  cudaGraphExecUpdateResultInfo info{};
  EXPECT_CUDA(cudaErrorGraphExecUpdateFailure, cudaGraphExecUpdate(exec, longer, &info));
  EXPECT_EQ(cudaGraphExecUpdateErrorTopologyChanged, info.result);
  EXPECT_CUDA(cudaSuccess, cudaGraphExecUpdate(exec, similar, &info));
  EXPECT_EQ(cudaGraphExecUpdateSuccess, info.result);
  ASSERT_OK(cudaGraphLaunch(exec, one_));
  ASSERT_OK(cudaDeviceSynchronize());
  EXPECT_EQ("b", order_);
}

TEST_F(Graphs, FaultInAReplayKillsTheDevice) {
  begin();
  note(one_, 'a');
  enqueue(one_, "faulty", [] { throw DeviceFault("out of range", cudaErrorIllegalAddress); });
  note(one_, 'b');
  const cudaGraphExec_t exec = instantiate(end());
  EXPECT_CUDA(cudaSuccess, cudaGraphLaunch(exec, one_));
  EXPECT_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(one_));
  EXPECT_EQ("a", order_) << "nothing runs after the fault";
}

TEST_F(Graphs, PrintsItself) {
  begin();
  note(one_, 'a');
  note(one_, 'b');
  const std::string path = ::testing::TempDir() + "graph_test.dot";
  ASSERT_OK(cudaGraphDebugDotPrint(end(), path.c_str(), 0));
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_NE(std::string::npos, text.str().find("kernel\\na"));
  EXPECT_NE(std::string::npos, text.str().find("n0 -> n1"));
}

// ---- What a capture forbids --------------------------------------------------------------------
TEST_F(Graphs, WaitingForACapturingStreamIsIllegal) {
  begin();
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize(one_));
  expect_invalidated();
  begin();
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, cudaStreamQuery(one_));
  expect_invalidated();
  begin();
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, cudaDeviceSynchronize());
  expect_invalidated();
}

TEST_F(Graphs, UnsafeCallsAreIllegal) {
  void* pointer = nullptr;
  std::vector<int> host(1);
  const Pinned<int> pinned(1);
  const OnDevice<int> device(1);
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaMalloc(&pointer, 4); },
      [&] { return cudaFree(device.get()); },
      [&] { return cudaMallocHost(&pointer, 4); },
      [&] { return cudaMemcpy(device.get(), pinned.get(), 4, cudaMemcpyHostToDevice); },
      [&] { return cudaMemset(device.get(), 0, 4); },
      [&] {  // stricter than CUDA
        return cudaMemcpyAsync(device.get(), host.data(), 4, cudaMemcpyHostToDevice, one_);
      },
      [&] { return cudaMallocAsync(&pointer, 4, one_); },
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    SCOPED_TRACE(i);
    begin();
    note(one_, 'a');
    EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, calls[i]());
    note(one_, 'b');
    EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaGetLastError());
    expect_invalidated();
  }
}

TEST_F(Graphs, UnsafeCallsDependOnModeAndThread) {
  const auto allocate = [] {
    void* pointer = nullptr;
    const cudaError_t result = cudaMalloc(&pointer, 4);
    cudaGetLastError();
    return result;
  };
  const auto in_another_thread = [](auto f) {
    cudaError_t result{};
    std::thread([&] { result = f(); }).join();
    return result;
  };
  begin(cudaStreamCaptureModeThreadLocal);
  EXPECT_CUDA(cudaSuccess, in_another_thread(allocate));
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, allocate());
  expect_invalidated();
  begin(cudaStreamCaptureModeGlobal);
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported, in_another_thread(allocate));
  expect_invalidated();
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_CUDA(cudaSuccess, allocate());
  end();
  begin(cudaStreamCaptureModeGlobal);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  ASSERT_OK(cudaThreadExchangeStreamCaptureMode(&mode));
  EXPECT_EQ(cudaStreamCaptureModeGlobal, mode);
  EXPECT_CUDA(cudaSuccess, allocate()) << "this thread says that it knows what it does";
  ASSERT_OK(cudaThreadExchangeStreamCaptureMode(&mode));
  end();
}

TEST_F(Graphs, CallsThatAreSafeStaySo) {
  const OnDevice<int> device(1);
  begin();
  size_t free = 0, total = 0;
  int value = 0;
  cudaEvent_t event = nullptr;
  cudaStream_t stream = nullptr;
  EXPECT_CUDA(cudaSuccess, cudaMemGetInfo(&free, &total));
  EXPECT_CUDA(cudaSuccess, cudaGetDevice(&value));
  EXPECT_CUDA(cudaSuccess, cudaEventCreate(&event));
  EXPECT_CUDA(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  EXPECT_CUDA(cudaSuccess, cudaMemsetAsync(device.get(), 0, 4, stream)) << "not in the capture";
  EXPECT_CUDA(cudaSuccess, cudaStreamSynchronize(stream));
  end();
}

TEST_F(Graphs, LegacyStreamWouldDependOnACapture) {
  cudaStream_t blocking = nullptr;
  ASSERT_OK(cudaStreamCreate(&blocking));
  ASSERT_OK(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed));
  note(nullptr, 'a');
  EXPECT_CUDA(cudaErrorStreamCaptureImplicit, cudaGetLastError());
  cudaGraph_t graph = nullptr;
  EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(blocking, &graph));
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported,
              cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
}

TEST_F(Graphs, EventsOfACaptureHaveNoProgress) {
  begin();
  note(one_, 'a');
  ASSERT_OK(cudaEventRecord(fork_, one_));
  EXPECT_CUDA(cudaErrorCapturedEvent, cudaEventSynchronize(fork_));
  expect_invalidated();
  EXPECT_CUDA(cudaErrorCapturedEvent, cudaEventQuery(fork_)) << "after its end too";
  EXPECT_CUDA(cudaErrorCapturedEvent, cudaStreamWaitEvent(two_, fork_, 0));
  ASSERT_OK(cudaEventRecord(fork_, two_));
  EXPECT_CUDA(cudaSuccess, cudaEventQuery(fork_)) << "recorded anew";
}

TEST_F(Graphs, WorkOutsideACaptureCannotBeWaitedFor) {
  note(two_, 'a');
  ASSERT_OK(cudaEventRecord(join_, two_));
  begin();
  EXPECT_CUDA(cudaErrorStreamCaptureIsolation, cudaStreamWaitEvent(one_, join_, 0));
  expect_invalidated();
}

TEST_F(Graphs, TwoCapturesCannotMerge) {
  begin();
  note(one_, 'a');
  ASSERT_OK(cudaEventRecord(fork_, one_));
  ASSERT_OK(cudaStreamBeginCapture(two_, cudaStreamCaptureModeGlobal));
  EXPECT_CUDA(cudaErrorStreamCaptureMerge, cudaStreamWaitEvent(two_, fork_, 0));
  expect_invalidated();
  cudaGraph_t graph = nullptr;
  EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(two_, &graph));
}

TEST_F(Graphs, ForksMustBeJoined) {
  begin();
  note(one_, 'a');
  order(one_, two_, fork_);
  note(two_, 'b');
  cudaGraph_t graph = nullptr;
  EXPECT_CUDA(cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(one_, &graph));
  EXPECT_EQ(nullptr, graph);
  begin();
  note(one_, 'a');
  order(one_, two_, fork_);  // without work of its own there is nothing to join
  EXPECT_CUDA(cudaSuccess, cudaStreamEndCapture(one_, &graph));
}

TEST_F(Graphs, CapturesEndWhereTheyBegan) {
  cudaGraph_t graph = nullptr;
  EXPECT_CUDA(cudaErrorIllegalState, cudaStreamEndCapture(one_, &graph)) << "none has begun";
  begin();
  EXPECT_CUDA(cudaErrorIllegalState, cudaStreamBeginCapture(one_, cudaStreamCaptureModeGlobal));
  cudaError_t elsewhere{};
  std::thread([&] { elsewhere = cudaStreamEndCapture(one_, &graph); }).join();
  EXPECT_CUDA(cudaErrorStreamCaptureWrongThread, elsewhere);
  note(one_, 'a');
  order(one_, two_, fork_);
  EXPECT_CUDA(cudaErrorStreamCaptureUnmatched, cudaStreamEndCapture(two_, &graph));
  expect_invalidated();
}

}  // namespace
}  // namespace simt
