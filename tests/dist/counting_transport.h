// counting_transport.h: a rank of a ring, with a count of what it sends. Included by the tests of
// the ring on CPUs and on GPUs.
#pragma once

#include <memory>

#include <gtest/gtest.h>

#include "dist/transport.h"

namespace minibert::testing {

/// Counts what one rank sends, and how often it waits.
class CountingTransport : public Transport {
 public:
  explicit CountingTransport(std::unique_ptr<Transport> transport) : to_(std::move(transport)) {}
  int rank() const override { return to_->rank(); }
  int world() const override { return to_->world(); }
  void send(int to, std::span<const std::byte> bytes, uint64_t tag) override {
    EXPECT_EQ(to, (rank() + 1) % world());
    sent += bytes.size();
    to_->send(to, bytes, tag);
  }
  void receive(int from, std::span<std::byte> bytes, uint64_t tag) override {
    EXPECT_EQ(from, (rank() + world() - 1) % world());
    to_->receive(from, bytes, tag);
  }
  void finish() override {
    ++steps;
    to_->finish();
  }
  std::byte* room(size_t bytes) override { return to_->room(bytes); }
  size_t sent = 0;
  int steps = 0;

 private:
  const std::unique_ptr<Transport> to_;
};

}  // namespace minibert::testing
