// store.h: small values by name that all ranks of a run see: how they find each other before they can
// talk. Kinds: the rendezvous (rendezvous.h); between threads of a test, tests/dist/memory_store.h.
// Easy to break: a name is set once, by one rank, so that who waits for it can take what is there.
#pragma once

#include <string>
#include <string_view>

namespace minibert {

class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string& key, std::string_view value) = 0;
  /// Waits until it is set. Errors: CommError after `timeout` seconds, naming the key.
  virtual std::string get(const std::string& key, double timeout) = 0;
};

}  // namespace minibert
