#include "core/lanes.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"

namespace emulsion {

struct Lanes::State {
  std::mutex mutex;
  std::condition_variable begin, end;
  const std::function<void(int64_t)>* work = nullptr;
  int64_t round = 0, running = 0;
  bool closing = false;
  std::vector<std::exception_ptr> thrown;
  std::vector<std::thread> threads;

  void lane(int64_t index) {
    // OpenMP's and MKL's numbers are each thread's own, but a thread's first use of ATen takes over the program's: once for
    // ATen's compiled part, once for its inline functions, whose "first" is a variable of this program.
    at::get_num_threads();
    at::internal::lazy_init_num_threads();
    at::set_num_threads(1);
    int64_t done = 0;
    std::unique_lock lock(mutex);
    while (true) {
      begin.wait(lock, [&] { return closing || round > done; });
      if (closing) return;
      done = round;
      lock.unlock();
      std::exception_ptr error;
      try {
        (*work)(index);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      thrown[static_cast<size_t>(index)] = error;
      if (--running == 0) end.notify_one();
    }
  }
};

Lanes::Lanes(int64_t count) : state_(std::make_unique<State>()) {
  EMULSION_CHECK(count >= 1, internal, "[lanes] expected at least one, got {}", count);
  const int threads = at::get_num_threads();
  state_->thrown.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) state_->threads.emplace_back([this, i] { state_->lane(i); });
  // ATen also keeps the number for threads that have not begun to compute; that is this one's, not the lanes'.
  run([](int64_t) {});
  at::set_num_threads(threads);
}

Lanes::~Lanes() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->begin.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int64_t Lanes::count() const { return static_cast<int64_t>(state_->threads.size()); }

void Lanes::run(const std::function<void(int64_t)>& work) {
  std::unique_lock lock(state_->mutex);
  state_->work = &work;
  state_->running = count();
  ++state_->round;
  state_->begin.notify_all();
  state_->end.wait(lock, [&] { return state_->running == 0; });
  for (const std::exception_ptr& error : state_->thrown) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace emulsion
