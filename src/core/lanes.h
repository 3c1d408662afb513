// Threads that each compute by themselves, beside the one pool in which all share every operation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace emulsion {

/// The operations of a small network are over before two threads have agreed to share one. Lanes share the batch instead:
/// each thread takes a part of it through the whole network. Within a lane every operation runs in that one thread.
class Lanes {
 public:
  /// Throws: Error{internal} if count < 1.
  explicit Lanes(int64_t count);
  ~Lanes();
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  int64_t count() const;

  /// Runs work(0) to work(count - 1) at once and waits for all; then throws the first lane's exception, if any threw.
  void run(const std::function<void(int64_t lane)>& work);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace emulsion
