// libFuzzer's entry; EMULSION_FUZZ_TARGET names the target. See run.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "fuzz/targets.h"

namespace {

const emulsion::fuzz::Target& chosen() {
  const char* const name = std::getenv("EMULSION_FUZZ_TARGET");
  const auto targets = emulsion::fuzz::targets();
  const auto found =
      std::ranges::find(targets, std::string_view(name ? name : ""), &emulsion::fuzz::Target::name);
  if (found != targets.end()) return *found;
  std::fprintf(stderr, "EMULSION_FUZZ_TARGET: expected one of");
  for (const auto& target : targets) std::fprintf(stderr, " %s", target.name.data());
  std::fprintf(stderr, "; got '%s'\n", name ? name : "");
  std::exit(2);
}

// Of this thread: a busy machine makes nothing slow.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A second, and as much again twice for what the sanitizers cost.
constexpr double kMaxSeconds = 3;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const emulsion::fuzz::Target& target = []() -> const emulsion::fuzz::Target& {
    chosen().run("");  // loads what is loaded once
    return chosen();
  }();
  const double before = thread_seconds();
  target.run({reinterpret_cast<const char*>(data), size});
  if (thread_seconds() - before > kMaxSeconds) {
    std::fprintf(stderr, "%.1f s of processor time for one input\n", thread_seconds() - before);
    std::abort();
  }
  return 0;
}
