#include "core/allocator.h"

#include <c10/core/CPUAllocator.h>
#include <malloc.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <mutex>

#include "core/device.h"
#include "core/error.h"

namespace emulsion {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kHugePage = 2 * kMiB;
constexpr size_t kBorrowFrom = kMiB;  // larger requests may take a block up to two classes larger
constexpr size_t kCheckFrom = 64 * kMiB;  // larger requests look at the free memory first
constexpr size_t kFreeAllowance = 256 * kMiB;
constexpr int kClasses = 320;

/// Stands before the data of every block and keeps its alignment.
struct alignas(64) Header {
  uint32_t size_class;
  bool mapped;   // by mmap, otherwise by aligned_alloc
  Header* next;  // while free
};
static_assert(sizeof(Header) == 64);

/// Size classes in eighths of a power of two, so that at most 1/8 of a block is not asked for:
/// 64, 128 ... 512, 576, 640 ... 1024, 1152 ...
int size_class(size_t bytes) {
  if (bytes <= 512) return static_cast<int>((bytes + 63) / 64) - 1;
  const int exponent = std::bit_width(bytes - 1) - 1;  // 2^exponent < bytes <= 2^(exponent + 1)
  const size_t step = size_t{1} << (exponent - 3);
  const size_t steps = (bytes - (size_t{1} << exponent) + step - 1) / step;
  return 8 + (exponent - 9) * 8 + static_cast<int>(steps) - 1;
}

size_t class_bytes(int index) {
  if (index < 8) return 64 * (static_cast<size_t>(index) + 1);
  const int exponent = 9 + (index - 8) / 8;
  const size_t steps = static_cast<size_t>((index - 8) % 8) + 1;
  return (size_t{1} << exponent) + (steps << (exponent - 3));
}

/// Large blocks come from the system on a huge-page boundary.
void* map_aligned(size_t bytes) {
  const size_t wanted = (bytes + 4095) / 4096 * 4096;
  void* raw =
      mmap(nullptr, wanted + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = (begin + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > begin) munmap(raw, aligned - begin);
  const uintptr_t end = begin + wanted + kHugePage;
  if (end > aligned + wanted) {
    munmap(reinterpret_cast<void*>(aligned + wanted), end - aligned - wanted);
  }
  void* block = reinterpret_cast<void*>(aligned);
  madvise(block, wanted, MADV_HUGEPAGE);  // advice: a kernel without huge pages may refuse
  return block;
}

void give_back(Header* block) {
  const size_t bytes = sizeof(Header) + class_bytes(static_cast<int>(block->size_class));
  if (block->mapped) {
    munmap(block, (bytes + 4095) / 4096 * 4096);
  } else {
    std::free(block);
  }
}

class Cache {
 public:
  void* take(size_t bytes);
  void put(void* data);
  void trim();
  AllocatorStats stats() const { return {in_use_, peak_, cached_, system_calls_}; }

 private:
  struct FreeList {
    std::mutex mutex;
    Header* first = nullptr;
  };

  Header* pop(int index);
  Header* pop_fitting(int index, size_t bytes);
  Header* from_system(int index);
  void release_beyond(int64_t total);
  void count_taken(int64_t bytes);

  std::array<FreeList, kClasses> free_;
  std::atomic<int64_t> in_use_{0}, cached_{0}, peak_{0}, system_calls_{0};
};

void* Cache::take(size_t bytes) {
  const int index = size_class(bytes);
  EMULSION_CHECK(bytes < (size_t{1} << 46), out_of_memory,
                 "[memory] expected a tensor that fits a machine, got one of {} bytes", bytes);
  Header* block = pop_fitting(index, bytes);
  if (block == nullptr) block = from_system(index);
  count_taken(static_cast<int64_t>(class_bytes(static_cast<int>(block->size_class))));
  return block + 1;
}

void Cache::put(void* data) {
  Header* block = static_cast<Header*>(data) - 1;
  const auto bytes = static_cast<int64_t>(class_bytes(static_cast<int>(block->size_class)));
  in_use_ -= bytes;
  cached_ += bytes;
  FreeList& list = free_[block->size_class];
  const std::lock_guard lock(list.mutex);
  block->next = list.first;
  list.first = block;
}

Header* Cache::pop(int index) {
  FreeList& list = free_[static_cast<size_t>(index)];
  Header* block = nullptr;
  {
    const std::lock_guard lock(list.mutex);
    block = list.first;
    if (block != nullptr) list.first = block->next;
  }
  if (block != nullptr) cached_ -= static_cast<int64_t>(class_bytes(index));
  return block;
}

Header* Cache::pop_fitting(int index, size_t bytes) {
  const int last = bytes >= kBorrowFrom ? index + 2 : index;
  for (int i = index; i <= last; ++i) {
    if (Header* block = pop(i)) return block;
  }
  return nullptr;
}

Header* Cache::from_system(int index) {
  const size_t bytes = class_bytes(index);
  const auto signed_bytes = static_cast<int64_t>(bytes);
  // What was in use at once, half as much again and an allowance: the shapes of a run may vary
  // without the cache growing with every new one.
  const int64_t needed = in_use_ + signed_bytes;
  const int64_t peak = std::max<int64_t>(peak_, needed);
  release_beyond(peak + peak / 2 + static_cast<int64_t>(kFreeAllowance) - needed);
  if (bytes >= kCheckFrom && available_memory_bytes() < signed_bytes) trim();
  const int64_t available = bytes >= kCheckFrom ? available_memory_bytes() : signed_bytes;
  const bool mapped = bytes >= kHugePage;
  const size_t total = sizeof(Header) + bytes;
  void* raw = nullptr;
  if (available >= signed_bytes) raw = mapped ? map_aligned(total) : aligned_alloc(64, total);
  EMULSION_CHECK(raw != nullptr, out_of_memory,
                 "[memory] expected room for a tensor of {:.1f} MiB, got {:.1f} MiB of memory left "
                 "({:.1f} MiB are in tensors); use a smaller batch_size (with accumulate) or "
                 "smaller pictures, or close other programs",
                 static_cast<double>(bytes) / kMiB,
                 static_cast<double>(available_memory_bytes()) / kMiB,
                 static_cast<double>(in_use_) / kMiB);
  ++system_calls_;
  return new (raw) Header{static_cast<uint32_t>(index), mapped, nullptr};
}

/// Gives back free blocks, largest first, until at most `total` bytes of them are left.
void Cache::release_beyond(int64_t total) {
  for (int i = kClasses - 1; i >= 0 && cached_ > total; --i) {
    while (cached_ > total) {
      Header* block = pop(i);
      if (block == nullptr) break;
      give_back(block);
    }
  }
}

void Cache::trim() {
  release_beyond(0);
  peak_ = in_use_.load();
  malloc_trim(0);
}

void Cache::count_taken(int64_t bytes) {
  const int64_t now = in_use_ += bytes;
  int64_t peak = peak_;
  while (now > peak && !peak_.compare_exchange_weak(peak, now)) {
  }
}

/// Never destroyed: tensors may outlive every static object.
Cache& cache() {
  static Cache* const instance = new Cache;
  return *instance;
}

void free_data(void* data) {
  if (data != nullptr) cache().put(data);
}

class CachingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes == 0 ? nullptr : cache().take(bytes);
    return {data, data, &free_data, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_data; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

void install_caching_allocator() {
#if !defined(__SANITIZE_ADDRESS__)  // it must see every use of a freed tensor
  static const bool installed = [] {
    // The scratch memory of oneDNN comes from malloc: keep its larger blocks too.
    mallopt(M_MMAP_THRESHOLD, static_cast<int>(32 * kMiB));
    mallopt(M_TRIM_THRESHOLD, static_cast<int>(256 * kMiB));
    c10::SetCPUAllocator(new CachingAllocator);  // the process keeps it
    return true;
  }();
  (void)installed;
#endif
}

AllocatorStats allocator_stats() { return cache().stats(); }

void trim_allocator() { cache().trim(); }

}  // namespace emulsion
