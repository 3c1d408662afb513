#include "core/device.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "core/allocator.h"
#include "core/error.h"

namespace emulsion {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

/// The first number in a file of one value, or `otherwise` ("max", missing, unreadable).
int64_t number_in(const std::string& file, int64_t otherwise) {
  std::ifstream in(file);
  int64_t value = otherwise;
  return in >> value ? value : otherwise;
}

/// The number after "<key>" at the start of a line; -1 if there is none.
int64_t number_after(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key))
      return std::stoll("0" + line.substr(line.find_first_of("0123456789")));
  }
  return -1;
}

/// The flags of the first processor, with a space before and after each.
std::string processor_flags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("flags") || line.starts_with("Features")) {
      return line.substr(line.find(':') + 1) + " ";
    }
  }
  return "";
}

bool has_flag(const std::string& flags, const std::string& flag) {
  return flags.find(" " + flag + " ") != std::string::npos;
}

/// One entry per physical core that this process may run on: hyper-threads share their units.
int64_t physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream in(
        fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    cores.insert(std::getline(in, siblings) ? siblings : fmt::format("{}", cpu));
  }
  return std::max<int64_t>(1, static_cast<int64_t>(cores.size()));
}

/// Processors that a container's quota is worth, rounded up.
int64_t quota_cores() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || period <= 0) return kUnlimited;
  return std::max<int64_t>(1, static_cast<int64_t>(quota / period + 0.999));
}

/// What a container may still take, counting the file cache as free.
int64_t container_memory_left() {
  const std::string folder = "/sys/fs/cgroup/";
  const int64_t limit = number_in(folder + "memory.max", kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  const int64_t used = number_in(folder + "memory.current", 0);
  const int64_t cache =
      std::max<int64_t>(0, number_after(folder + "memory.stat", "inactive_file "));
  return std::max<int64_t>(0, limit - used + cache);
}

int find_torch_cpu(dl_phdr_info* info, size_t, void* result) {
  const std::filesystem::path file = info->dlpi_name;
  if (file.filename() != "libtorch_cpu.so") return 0;
  *static_cast<std::filesystem::path*>(result) = file.parent_path();
  return 1;
}

/// Loads libtorch_cuda from beside libtorch_cpu; its devices register themselves.
void load_cuda() {
  std::filesystem::path folder;
  dl_iterate_phdr(find_torch_cpu, &folder);
  const std::filesystem::path library = folder / "libtorch_cuda.so";
  EMULSION_CHECK(
      std::filesystem::exists(library), unsupported,
      "[device] expected {} for CUDA, got a LibTorch that was built for the CPU only; run "
      "./setup on a machine with an NVIDIA driver, or use device \"cpu\"",
      library.string());
  const bool loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr;
  EMULSION_CHECK(loaded, unsupported, "[device] expected {} to load, got: {}; use device \"cpu\"",
                 library.string(), dlerror());
}

}  // namespace

at::Device find_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const bool is_cuda =
      name == "cuda" ||
      (name.starts_with("cuda:") && name.size() > 5 &&
       name.find_first_not_of("0123456789", 5) == std::string::npos && name.size() < 9);
  EMULSION_CHECK(is_cuda, unsupported,
                 "[device] expected \"cpu\", \"cuda\" or \"cuda:<number>\", got \"{}\"", name);
  load_cuda();
  const int64_t count = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  const int64_t index = name == "cuda" ? 0 : std::stoll(name.substr(5));
  EMULSION_CHECK(index < count, unsupported,
                 "[device] expected a CUDA device number below {}, got {}; see nvidia-smi, or use "
                 "device \"cpu\"",
                 count, index);
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

int64_t set_compute_threads(int64_t wanted) {
  const int64_t threads = wanted > 0 ? wanted : std::min(physical_cores(), quota_cores());
  at::set_num_threads(static_cast<int>(threads));
  static const bool once = [] {  // may be set only once in a process
    at::set_num_interop_threads(1);
    return true;
  }();
  (void)once;
  return threads;
}

int64_t peak_memory_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

TensorBytes tensor_bytes(at::Device device) {
  if (device.is_cpu()) {
    const AllocatorStats stats = allocator_stats();
    return {stats.in_use_bytes, stats.peak_bytes};
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(std::max<c10::DeviceIndex>(0, device.index()));
  return {stats.allocated_bytes[0].current, stats.allocated_bytes[0].peak};
}

int64_t tensor_bytes_limit(at::Device device, int64_t limit) {
  if (!device.is_cpu()) {
    const auto index = std::max<c10::DeviceIndex>(0, device.index());
    const auto [free, total] = c10::getDeviceAllocator(device.type())->getMemoryInfo(index);
    const auto reserved = c10::getDeviceAllocator(device.type())->getDeviceStats(index).reserved_bytes[0].current;
    return limit > 0 ? limit : static_cast<int64_t>(free) + reserved;
  }
  const AllocatorStats stats = allocator_stats();
  const int64_t others = std::max<int64_t>(0, resident_memory_bytes() - stats.in_use_bytes - stats.cached_bytes);
  return (limit > 0 ? limit : resident_memory_bytes() + available_memory_bytes()) - others;
}

int64_t page_faults() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

int64_t resident_memory_bytes() {
  std::ifstream in("/proc/self/statm");
  int64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t available_memory_bytes() {
  const int64_t kibibytes = number_after("/proc/meminfo", "MemAvailable:");
  const int64_t machine = kibibytes < 0 ? kUnlimited : kibibytes * 1024;
  return std::min(machine, container_memory_left());
}

bool has_fast_bfloat16() {
  const std::string flags = processor_flags();
  return has_flag(flags, "avx512_bf16") || has_flag(flags, "amx_bf16") || has_flag(flags, "bf16");
}

std::string cpu_features() {
  constexpr auto kNames = std::to_array<std::pair<const char*, const char*>>({
      {"avx2", "AVX2"},
      {"fma", "FMA"},
      {"avx512f", "AVX512F"},
      {"avx512_vnni", "AVX512-VNNI"},
      {"avx512_bf16", "AVX512-BF16"},
      {"avx512_fp16", "AVX512-FP16"},
      {"amx_tile", "AMX"},
      {"amx_bf16", "AMX-BF16"},
      {"asimd", "NEON"},
      {"sve", "SVE"},
      {"bf16", "BF16"},
  });
  const std::string flags = processor_flags();
  std::string found;
  for (const auto& [flag, name] : kNames) {
    if (has_flag(flags, flag)) found += (found.empty() ? "" : " ") + std::string(name);
  }
  return found;
}

}  // namespace emulsion
