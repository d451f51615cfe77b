// graph.cpp: captured graphs: looking at them, instantiating, launching, updating.
// An executable graph has its own copy of the nodes, so the graph may be destroyed. A launch is one
// operation of its stream that runs every node; under a random schedule in any order that the
// nodes' edges allow, so a fork that was not joined where it matters shows. Test: ctest -R
// simt_graph.
#include <algorithm>
#include <cstdio>

#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

using Nodes = std::vector<CUgraphNode_st>;

std::shared_ptr<const Nodes> copy_of(const CUgraph_st& graph) {
  auto nodes = std::make_shared<Nodes>();
  for (const auto& node : graph.nodes) nodes->push_back(*node);
  return nodes;
}

/// Of the nodes that are ready, always the most urgent, by urgencies drawn for this run.
void run_in_random_order(const Nodes& nodes, uint64_t stream_id) {
  std::vector<uint32_t> urgency(nodes.size());
  for (uint32_t& u : urgency) u = random_urgency();
  std::vector<bool> done(nodes.size());
  for (size_t ran = 0; ran < nodes.size(); ++ran) {
    const CUgraphNode_st* next = nullptr;
    for (const CUgraphNode_st& node : nodes) {
      const bool ready = std::all_of(node.after.begin(), node.after.end(),
                                     [&](size_t before) { return done[before]; });
      if (!done[node.index] && ready && (!next || urgency[node.index] > urgency[next->index]))
        next = &node;
    }
    execute(next->work, stream_id);
    done[next->index] = true;
  }
}

void run_nodes(const Nodes& nodes, uint64_t stream_id) {
  if (runtime().schedule == Schedule::random) return run_in_random_order(nodes, stream_id);
  for (const CUgraphNode_st& node : nodes) execute(node.work, stream_id);
}

/// On the virtual clock: the longest way through the graph.
double cost_of(const Nodes& nodes) {
  std::vector<double> end(nodes.size());
  double longest = 0;
  for (const CUgraphNode_st& node : nodes) {
    for (size_t before : node.after) end[node.index] = std::max(end[node.index], end[before]);
    end[node.index] += node.work.cost_ns;
    longest = std::max(longest, end[node.index]);
  }
  return longest;
}

bool same_shape(const Nodes& a, const Nodes& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.work.kind == y.work.kind && x.after == y.after;
  });
}

const char* name_of(cudaGraphNodeType kind) {
  switch (kind) {
    case cudaGraphNodeTypeKernel:
      return "kernel";
    case cudaGraphNodeTypeMemcpy:
      return "memcpy";
    case cudaGraphNodeTypeMemset:
      return "memset";
    case cudaGraphNodeTypeHost:
      return "host";
    case cudaGraphNodeTypeGraph:
      return "graph";
    default:
      return "other";
  }
}

cudaError_t instantiate(cudaGraphExec_t* exec, cudaGraph_t graph) {
  if (!exec || !runtime().graphs.count(graph)) return cudaErrorInvalidValue;
  *exec = new CUgraphExec_st;
  (*exec)->nodes = copy_of(*graph);
  runtime().graph_execs.insert(*exec);
  return cudaSuccess;
}

}  // namespace
}  // namespace simt

using simt::call;
using simt::runtime;

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().graphs.count(graph) || !count) return cudaErrorInvalidValue;
    if (!nodes) {
      *count = graph->nodes.size();
      return cudaSuccess;
    }
    // As documented: what is asked for beyond the number of nodes comes back as null.
    for (size_t i = 0; i < *count; ++i)
      nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
    *count = std::min(*count, graph->nodes.size());
    return cudaSuccess;
  });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return call(__func__, simt::kPlain, [&] {
    if (!node || !type) return cudaErrorInvalidValue;
    *type = node->work.kind;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetEdges(cudaGraph_t graph, cudaGraphNode_t* from, cudaGraphNode_t* to,
                              cudaGraphEdgeData* data, size_t* count) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().graphs.count(graph) || !count || !from != !to) return cudaErrorInvalidValue;
    size_t edges = 0;
    for (const auto& node : graph->nodes) {
      for (size_t before : node->after) {
        if (from && edges < *count) {
          from[edges] = graph->nodes[before].get();
          to[edges] = node.get();
          if (data) data[edges] = {};
        }
        ++edges;
      }
    }
    *count = from ? std::min(*count, edges) : edges;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags) {
  return call(__func__, simt::kPlain,
              [&] { return flags == 0 ? simt::instantiate(exec, graph) : cudaErrorNotSupported; });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
  return call(__func__, simt::kPlain, [&] {
    const bool known = runtime().graph_execs.count(exec) && simt::resolve(stream);
    return known ? cudaSuccess : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = simt::resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!runtime().graph_execs.count(exec)) return cudaErrorInvalidValue;
    std::vector<simt::OperationPtr> after;
    if (exec->last && !exec->last->done) after.push_back(exec->last);
    const auto launch = [nodes = exec->nodes, id = stream->id] { simt::run_nodes(*nodes, id); };
    return simt::submit(*stream,
                        {cudaGraphNodeTypeGraph, "graph", launch, simt::cost_of(*exec->nodes), {}},
                        &exec->last, after);
  });
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().graph_execs.count(exec) || !runtime().graphs.count(graph))
      return cudaErrorInvalidValue;
    const auto nodes = simt::copy_of(*graph);
    const bool same = simt::same_shape(*exec->nodes, *nodes);
    if (result) {
      *result = {};
      result->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (!same) return cudaErrorGraphExecUpdateFailure;
    exec->nodes = nodes;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return call(__func__, simt::kPlain, [&] {
    if (runtime().graph_execs.erase(exec) == 0) return cudaErrorInvalidValue;
    delete exec;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call(__func__, simt::kPlain, [&] {
    if (runtime().graphs.erase(graph) == 0) return cudaErrorInvalidValue;
    delete graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().graphs.count(graph) || !path) return cudaErrorInvalidValue;
    std::FILE* file = std::fopen(path, "w");
    if (!file) return cudaErrorOperatingSystem;
    std::fputs("digraph graph_1 {\n", file);
    for (const auto& node : graph->nodes) {
      std::fprintf(file, "  n%zu [label=\"%s\\n%s\"];\n", node->index,
                   simt::name_of(node->work.kind), node->work.what.c_str());
      for (size_t before : node->after)
        std::fprintf(file, "  n%zu -> n%zu;\n", before, node->index);
    }
    std::fputs("}\n", file);
    return std::fclose(file) == 0 ? cudaSuccess : cudaErrorOperatingSystem;
  });
}
