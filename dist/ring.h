// ring.h: collectives over sends and receives between neighbours, to be read. Patarasuk and Yuan,
// "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
// Called by ring_group.h and, on GPUs, by nccl_group.cpp, through ring_collective(); the reduce-scatter
// also by gloo_group.cpp, since Gloo has none of its own.
//
// Rank r sends to r + 1 and receives from r - 1, modulo R, in every step. The data has R blocks
// (Elements::block); blocks travel to the right and grow on their way. With R = 4, what each rank
// sends in each step, b = block b of which k ranks' sums are in (bk):
//
//            reduce-scatter                       all-gather
//            step 0   step 1   step 2   | owns    step 3   step 4   step 5
//   rank 0   3(1)     2(2)     1(3)     | 0(4)    0        3        2
//   rank 1   0(1)     3(2)     2(3)     | 1(4)    1        0        3
//   rank 2   1(1)     0(2)     3(3)     | 2(4)    2        1        0
//   rank 3   2(1)     1(2)     0(3)     | 3(4)    3        2        1
//
// Order of additions: block b is summed from rank b + 1 on around the ring, rank b comes last:
//   ((x[b+1] + x[b+2]) + ...) + x[b], ranks modulo R.
// Each block is summed once and then copied, so every rank has the same bits. Gloo and NCCL add in
// other orders: sums of two ranks are equal, longer ones differ by roundings.
//
// Cost for a rank, n bytes of data, R ranks, |b| = bytes of block b (n / R where R divides):
//
//                    steps       bytes sent
//   reduce_scatter   R - 1       n - |r|
//   all_gather       R - 1       n - |r + 1|
//   all_reduce       2 (R - 1)   2 n - |r| - |r + 1|   = 2 n (R - 1) / R, almost independent of R
//   broadcast        1           n, but 0 from the rank before the root; R - 1 steps from end to end
//
// and n / R bytes of memory. No rank can send less: the bytes are optimal; the steps are not
// (a tree has 2 log2 R), so a ring suits large buckets and small worlds.
// Easy to break: the block that arrives in a step is the one that is sent in the next.
// Test: ctest -R dist_ring, whose transport counts steps and bytes.
#pragma once

#include "dist/process_group.h"
#include "dist/transport.h"

namespace minibert {

/// As ProcessGroup's functions of these names; `tag` is the collective's number. `data` lies where the
/// transport's messages do; on a device everything is queued in the thread's stream.
void ring_all_reduce(Transport& transport, const Elements& data, uint64_t tag);
void ring_reduce_scatter(Transport& transport, const Elements& data, uint64_t tag);
void ring_all_gather(Transport& transport, const Elements& data, uint64_t tag);
void ring_broadcast(Transport& transport, const Elements& data, int root, uint64_t tag);

/// Runs the one of these that a collective asks for. A barrier has no data: it is an all-reduce of
/// `meeting_point`, one element of any value, whose sum nobody has before everybody has added to it.
void ring_collective(Transport& transport, const Collective& collective,
                     const Elements& meeting_point);

}  // namespace minibert
