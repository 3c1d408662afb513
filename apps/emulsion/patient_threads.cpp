// Makes the compute threads of this program sleep, rather than spin, when they wait for each other
// for long.
//
// GNU OpenMP's threads spin for milliseconds at every barrier. Alone on a machine that is fast;
// beside one other busy program it makes a training step up to forty times slower, because the
// spinning thread keeps from its core the one it waits for. The library reads its settings from the
// environment before main() begins, so the program starts itself once more with the one it wants,
// before anything else is initialised (about 10 ms). OMP_WAIT_POLICY or GOMP_SPINCOUNT, if set, are
// respected.
#include <unistd.h>

#include <array>
#include <climits>
#include <cstring>

namespace {

// Iterations. A step of the quickstart's model on two cores, alone: 0.22 s with endless spinning, 0.24 s at 100000,
// 0.30 s at 10000, 0.42 s at 1000. Beside other programs endless spinning costs up to 8 s a step.
char wanted[] = "GOMP_SPINCOUNT=200000";

bool decides(const char* variable) {
  for (const char* name : {"OMP_WAIT_POLICY=", "GOMP_SPINCOUNT="}) {
    if (std::strncmp(variable, name, std::strlen(name)) == 0) return true;
  }
  return false;
}

void start_with_patient_threads(int, char** arguments, char** environment) {
  std::array<char*, 4096> larger;
  size_t count = 0;
  for (; environment[count] != nullptr; ++count) {
    if (decides(environment[count]) || count + 2 >= larger.size()) return;
    larger[count] = environment[count];
  }
  larger[count] = wanted;
  larger[count + 1] = nullptr;
  std::array<char, PATH_MAX> program;
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size() - 1);
  if (length <= 0) return;
  program[static_cast<size_t>(length)] = '\0';
  execve(program.data(), arguments, larger.data());  // if it fails, this start goes on as it is
}

#if !defined(__SANITIZE_ADDRESS__)
// Functions of .preinit_array run before the initialisers of every library.
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const early)(int, char**, char**) = start_with_patient_threads;
#endif

}  // namespace
