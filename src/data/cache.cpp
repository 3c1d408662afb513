// File: the line "emulsion cache 1\n", then records: a Head, a JSON description, the tensors'
// bytes. The first record describes the file: {"settings": ...}; the others {"key": ..., "tensors":
// [...]}.
#include "data/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "io/hash.h"

namespace emulsion::data {
namespace {

using nlohmann::json;

constexpr std::string_view kFirstLine = "emulsion cache 1\n";
constexpr uint32_t kMark = 0x43524543;  // "CERC"
constexpr uint32_t kLongestText = 1 << 20;

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
    EMULSION_CHECK(!key.empty(), internal, "[{}] an entry needs a key", path_.string());
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
    if (!places_.contains(name_of_key(key))) append(key, text, data);
  }

  bool contains(const std::string& key) const {
    const std::lock_guard lock(mutex_);
    return places_.contains(name_of_key(key));
  }

  std::vector<Tensor> get(const std::string& key) const {
    uint64_t at = 0, length = 0;
    {
      const std::lock_guard lock(mutex_);
      length = end_;
      const auto it = places_.find(name_of_key(key));
      EMULSION_CHECK(it != places_.end(), not_found, "[{}] no entry \"{}\" among {}",
                     path_.string(), key, places_.size());
      at = it->second;
    }
    const auto damaged = [&] {
      return Error(ErrorCode::format,
                   fmt::format("[{}] entry \"{}\" at byte {} is damaged; delete the file, it will be made anew",
                               path_.string(), key, at));
    };
    Head head;
    if (!read(reinterpret_cast<char*>(&head), sizeof(Head), at) || head.text_bytes > kLongestText || head.data_bytes > length) {
      throw damaged();
    }
    std::string text(head.text_bytes, '\0');
    if (!read(text.data(), text.size(), at + sizeof(Head)) || io::checksum(text) != head.text_check) throw damaged();
    std::string data(head.data_bytes, '\0');
    if (!read(data.data(), data.size(), at + sizeof(Head) + text.size()) || io::checksum(data) != head.data_check) throw damaged();
    const json description = json::parse(text);
    if (description["key"] != key) throw damaged();
    return tensors_of(description["tensors"], data);
  }

  int64_t size() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(places_.size());
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

  // A key in few bytes; two different ones of 128 bits agree by chance once in 10^26 for a million keys.
  struct Name {
    uint64_t first = 0, second = 0;
    bool operator==(const Name&) const = default;
  };
  struct NameHash {
    size_t operator()(const Name& name) const { return name.first; }
  };
  static Name name_of_key(const std::string& key) { return {io::checksum(key), hash_name(key)}; }

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
    Head head;
    head.text_bytes = static_cast<uint32_t>(text.size());
    head.data_bytes = data.size();
    head.text_check = io::checksum(text);
    head.data_check = io::checksum(data);
    std::string record(reinterpret_cast<const char*>(&head), sizeof(Head));
    record += text;
    record += data;
    write(record, end_);
    if (!key.empty()) places_.emplace(name_of_key(key), end_);
    end_ += record.size();
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
    Head head;
    if (!read(reinterpret_cast<char*>(&head), sizeof(Head), end_)) return false;
    if (head.mark != kMark || head.text_bytes > kLongestText) return false;
    const uint64_t begin = end_ + sizeof(Head) + head.text_bytes;
    if (begin > length || head.data_bytes > length - begin) return false;
    std::string text(head.text_bytes, '\0');
    if (!read(text.data(), text.size(), end_ + sizeof(Head))) return false;
    if (io::checksum(text) != head.text_check) return false;
    if (!first) {
      const json description = json::parse(text, nullptr, false);
      if (description.is_discarded()) return false;
      places_.emplace(name_of_key(description.value("key", "")), end_);
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
  std::unordered_map<Name, uint64_t, NameHash> places_;  // where records begin
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
void TensorCache::flush() { file_->flush(); }

}  // namespace emulsion::data
