#include "data/file_state.h"

#include <sys/stat.h>

#include <cstdlib>
#include <ctime>
#include <string>

#include "core/random.h"

namespace emulsion::data {
namespace {

// Coarser than the clocks that file systems stamp with (Linux: a tick, 10 ms at most).
constexpr int64_t kUnsettled = 100'000'000;  // ns

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

void append(std::string& bytes, const auto& value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof(value)); }

uint64_t never_zero(uint64_t hash) { return hash == 0 ? 1 : hash; }

}  // namespace

uint64_t file_state(const std::filesystem::path& file) {
  struct stat found = {};
  std::string bytes = file.native();
  if (stat(file.c_str(), &found) == 0) {
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t changed = nanoseconds(found.st_mtim);
    if (std::abs(nanoseconds(now) - changed) < kUnsettled) return 0;
    append(bytes, int64_t{found.st_size});
    append(bytes, changed);
  }
  return never_zero(hash_name(bytes));
}

uint64_t joined_states(uint64_t first, uint64_t second) {
  if (first == 0 || second == 0) return 0;
  std::string bytes;
  append(bytes, first);
  append(bytes, second);
  return never_zero(hash_name(bytes));
}

}  // namespace emulsion::data
