// File: the line "emulsion cache 1\n", then records: a Head, a JSON description, the tensors'
// bytes. The first record describes the file: {"settings": ...}; the others {"key": ..., "tensors":
// [...]}.
#include "data/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "io/hash.h"

namespace emulsion::data {
namespace {

using nlohmann::json;

constexpr std::string_view kFirstLine = "emulsion cache 1\n";
constexpr uint32_t kMark = 0x43524543;  // "CERC"
constexpr uint32_t kLongestText = 1 << 20;

// FNV-1a over 64-bit words, the last one padded with zeros, and the length.
uint64_t checksum(const char* data, size_t size) {
  uint64_t hash = 0xCBF29CE484222325ULL ^ size;
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, data + i, std::min<size_t>(8, size - i));
    hash = (hash ^ word) * 0x100000001B3ULL;
    hash ^= hash >> 32;
  }
  return hash;
}

struct DtypeName {
  at::ScalarType dtype;
  const char* name;
};
constexpr DtypeName kDtypes[] = {{at::kFloat, "F32"},  {at::kBFloat16, "BF16"}, {at::kHalf, "F16"},
                                 {at::kDouble, "F64"}, {at::kLong, "I64"},      {at::kInt, "I32"},
                                 {at::kByte, "U8"},    {at::kBool, "BOOL"}};

const char* name_of(at::ScalarType dtype) {
  for (const auto& entry : kDtypes) {
    if (entry.dtype == dtype) return entry.name;
  }
  throw Error(ErrorCode::unsupported,
              fmt::format("[cache] dtype {} cannot be stored", c10::toString(dtype)));
}

at::ScalarType dtype_of(const std::string& name) {
  for (const auto& entry : kDtypes) {
    if (name == entry.name) return entry.dtype;
  }
  throw Error(ErrorCode::format, fmt::format("[cache] unknown dtype \"{}\"", name));
}

}  // namespace

class TensorCache::File {
 public:
  File(const std::filesystem::path& folder, const std::string& name, const std::string& settings)
      : settings_(settings) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    path_ = folder / fmt::format("{}-{}.cache", name, io::sha256_hex(settings).substr(0, 16));
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail("cannot be opened; check the folder's permissions");
    try {
      open();
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
  }

  ~File() { ::close(descriptor_); }

  void put(const std::string& key, const std::vector<Tensor>& tensors) {
    json description = {{"key", key}, {"tensors", json::array()}};
    std::string data;
    for (const auto& given : tensors) {
      const Tensor tensor = given.detach().to(at::kCPU).contiguous();
      description["tensors"].push_back(
          {{"dtype", name_of(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}});
      data.append(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
    }
    const std::string text = description.dump();
    EMULSION_CHECK(text.size() <= kLongestText, format, "[{}] the key of an entry is too long",
                   path_.string());
    const std::lock_guard lock(mutex_);
    if (!entries_.contains(key)) append(key, text, data);
  }

  bool contains(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    return entries_.contains(key);
  }

  std::vector<Tensor> get(const std::string& key) const {
    Entry entry;
    {
      const std::lock_guard lock(mutex_);
      const auto it = entries_.find(key);
      EMULSION_CHECK(it != entries_.end(), not_found, "[{}] no entry \"{}\" among {}",
                     path_.string(), key, entries_.size());
      entry = it->second;
    }
    std::string text(entry.head.text_bytes, '\0'), data(entry.head.data_bytes, '\0');
    const bool whole = read(text.data(), text.size(), entry.at + sizeof(Head)) &&
                       read(data.data(), data.size(), entry.at + sizeof(Head) + text.size());
    EMULSION_CHECK(whole && checksum(data.data(), data.size()) == entry.head.data_check, format,
                   "[{}] entry \"{}\" at byte {} is damaged; delete the file, it will be made anew",
                   path_.string(), key, entry.at);
    return tensors_of(json::parse(text)["tensors"], data);
  }

  int64_t size() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(entries_.size());
  }

  std::string manifest() const {
    io::Sha256 hash;
    hash.update(cache_key({settings_}));
    const std::lock_guard lock(mutex_);
    for (const auto& [key, entry] : entries_) {
      hash.update(cache_key({key, std::to_string(entry.head.data_check)}));
    }
    return hash.finish();
  }

  void flush() {
    if (::fdatasync(descriptor_) != 0) fail("cannot be flushed to the disk");
  }

  const std::filesystem::path& file() const { return path_; }

 private:
  struct Head {
    uint32_t mark = kMark;
    uint32_t text_bytes = 0;
    uint64_t data_bytes = 0;
    uint64_t text_check = 0;
    uint64_t data_check = 0;
  };
  struct Entry {
    uint64_t at = 0;
    Head head;
  };

  [[noreturn]] void fail(const std::string& what) const {
    const int code = errno;
    throw Error(ErrorCode::io,
                fmt::format("[{}] {}: {}{}", path_.string(), what, std::strerror(code),
                            code == ENOSPC ? "; free space on the disk" : ""));
  }

  bool read(char* to, size_t size, uint64_t at) const {
    while (size > 0) {
      const ssize_t count = ::pread(descriptor_, to, size, static_cast<off_t>(at));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("cannot be read");
      if (count == 0) return false;
      to += count;
      at += static_cast<uint64_t>(count);
      size -= static_cast<size_t>(count);
    }
    return true;
  }

  void write(std::string_view bytes, uint64_t at) {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        const int code = errno;
        // What was written of the record goes again; if even that fails, opening drops it.
        if (::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) errno = code;
        errno = code;
        fail("cannot be written");
      }
      bytes.remove_prefix(static_cast<size_t>(count));
      at += static_cast<uint64_t>(count);
    }
  }

  void append(const std::string& key, const std::string& text, const std::string& data) {
    Entry entry{end_, {}};
    entry.head.text_bytes = static_cast<uint32_t>(text.size());
    entry.head.data_bytes = data.size();
    entry.head.text_check = checksum(text.data(), text.size());
    entry.head.data_check = checksum(data.data(), data.size());
    std::string record(reinterpret_cast<const char*>(&entry.head), sizeof(Head));
    record += text;
    record += data;
    write(record, end_);
    end_ += record.size();
    if (!key.empty()) entries_.emplace(key, entry);
  }

  void open() {
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      fail("is in use by another process; wait for it to end");
    }
    const uint64_t length = std::filesystem::file_size(path_);
    if (length < kFirstLine.size()) {
      start();
      return;
    }
    std::string line(kFirstLine.size(), '\0');
    read(line.data(), line.size(), 0);
    EMULSION_CHECK(line == kFirstLine, format,
                   "[{}] expected a cache that begins with \"emulsion cache 1\", got another kind "
                   "of file; move it away",
                   path_.string());
    end_ = kFirstLine.size();
    bool first = true;
    while (read_record(length, first)) first = false;
    if (first) {
      start();
    } else if (end_ < length) {
      log::debug("{}: dropped {} bytes of an entry that was not finished", path_.string(),
                 length - end_);
      if (::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) fail("cannot be cut");
    }
  }

  void start() {
    if (::ftruncate(descriptor_, 0) != 0) fail("cannot be cut");
    end_ = 0;
    write(kFirstLine, 0);
    end_ = kFirstLine.size();
    append("", json{{"settings", settings_}}.dump(-1, ' ', false, json::error_handler_t::replace),
           "");
  }

  // Takes in the record at end_; false if it is not whole.
  bool read_record(uint64_t length, bool first) {
    Entry entry{end_, {}};
    if (!read(reinterpret_cast<char*>(&entry.head), sizeof(Head), end_)) return false;
    const Head& head = entry.head;
    if (head.mark != kMark || head.text_bytes > kLongestText) return false;
    const uint64_t begin = end_ + sizeof(Head) + head.text_bytes;
    if (begin > length || head.data_bytes > length - begin) return false;
    std::string text(head.text_bytes, '\0');
    if (!read(text.data(), text.size(), end_ + sizeof(Head))) return false;
    if (checksum(text.data(), text.size()) != head.text_check) return false;
    if (!first) {
      const json description = json::parse(text, nullptr, false);
      if (description.is_discarded()) return false;
      entries_.emplace(description.value("key", ""), entry);
    }
    end_ = begin + head.data_bytes;
    return true;
  }

  std::vector<Tensor> tensors_of(const json& descriptions, const std::string& data) const {
    std::vector<Tensor> tensors;
    size_t at = 0;
    for (const auto& description : descriptions) {
      const Tensor tensor = at::empty(description["shape"].get<std::vector<int64_t>>(),
                                      dtype_of(description["dtype"].get<std::string>()));
      EMULSION_CHECK(tensor.nbytes() <= data.size() - at, format,
                     "[{}] expected {} more bytes in an entry, got {}; delete the file",
                     path_.string(), tensor.nbytes(), data.size() - at);
      if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), data.data() + at, tensor.nbytes());
      at += tensor.nbytes();
      tensors.push_back(tensor);
    }
    return tensors;
  }

  std::filesystem::path path_;
  std::string settings_;
  int descriptor_ = -1;
  uint64_t end_ = 0;  // of the last whole record
  std::map<std::string, Entry> entries_;
  mutable std::mutex mutex_;
};

TensorCache::TensorCache(const std::filesystem::path& folder, const std::string& name,
                         const std::string& settings)
    : file_(std::make_unique<File>(folder, name, settings)) {}
TensorCache::~TensorCache() = default;

void TensorCache::put(const std::string& key, const std::vector<Tensor>& tensors) {
  file_->put(key, tensors);
}
bool TensorCache::contains(const std::string& key) const { return file_->contains(key); }
std::vector<Tensor> TensorCache::get(const std::string& key) const { return file_->get(key); }
int64_t TensorCache::size() const { return file_->size(); }
const std::filesystem::path& TensorCache::path() const { return file_->file(); }
std::string TensorCache::manifest() const { return file_->manifest(); }
void TensorCache::flush() { file_->flush(); }

}  // namespace emulsion::data
