#include "data/loader.h"

#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <variant>

namespace emulsion::data {
namespace {

constexpr int kNice = 10;

}  // namespace

struct Loader::State {
  using Result = std::variant<Batch, std::exception_ptr>;

  const BatchSource& source;
  bool pixels;
  int64_t consumed, claimed;  // next batch to hand out, next one to prepare
  int64_t ahead;              // how many batches may be prepared before they are asked for
  bool stopping = false;
  std::map<int64_t, Result> ready;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::thread> threads;

  State(const BatchSource& s, bool p, int64_t first, int64_t a)
      : source(s), pixels(p), consumed(first), claimed(first), ahead(a) {}

  Batch load(int64_t index) const {
    return pixels ? source.load(index) : source.load_without_pixels(index);
  }

  Result try_load(int64_t index) const {
    try {
      return load(index);
    } catch (...) {
      return std::current_exception();
    }
  }

  void work() {
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // refusal does no harm
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopping || claimed < consumed + ahead; });
      if (stopping) return;
      const int64_t index = claimed++;
      lock.unlock();
      Result result = try_load(index);
      lock.lock();
      ready.emplace(index, std::move(result));
      changed.notify_all();
    }
  }
};

Loader::Loader(const BatchSource& source, int64_t first, int threads, bool pixels)
    : state_(std::make_unique<State>(source, pixels, first, 2 * std::max(threads, 1))) {
  for (int t = 0; t < threads; ++t) state_->threads.emplace_back([this] { state_->work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

Batch Loader::next() {
  State& state = *state_;
  if (state.threads.empty()) return state.load(state.consumed++);
  std::unique_lock lock(state.mutex);
  const int64_t index = state.consumed;
  state.changed.wait(lock, [&] { return state.ready.contains(index); });
  State::Result result = std::move(state.ready.extract(index).mapped());
  ++state.consumed;
  state.changed.notify_all();
  lock.unlock();
  if (auto* error = std::get_if<std::exception_ptr>(&result)) std::rethrow_exception(*error);
  return std::get<Batch>(std::move(result));
}

}  // namespace emulsion::data
