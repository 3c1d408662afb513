#include "io/safetensors_header.h"

#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "io/content.h"

namespace emulsion::io {
namespace {

constexpr SafetensorsDtype kDtypes[] = {
    {"I64", at::kLong, 8, 13},
    {"F64", at::kDouble, 8, 12},
    {"F32", at::kFloat, 4, 11},
    {"I32", at::kInt, 4, 10},
    {"BF16", at::kBFloat16, 2, 9},
    {"F16", at::kHalf, 2, 8},
    {"I16", at::kShort, 2, 7},
    {"F8_E4M3", at::kFloat8_e4m3fn, 1, 6},
    {"F8_E5M2", at::kFloat8_e5m2, 1, 5},
    {"I8", at::kChar, 1, 4},
    {"U8", at::kByte, 1, 3},
    {"BOOL", at::kBool, 1, 2},
};

constexpr std::string_view kUnsupportedDtypes[] = {"U16",     "U32",     "U64",     "C64",
                                                   "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"};

constexpr size_t kMaxEntries = 1'000'000;
constexpr size_t kMaxDimensions = 64;
constexpr const char* kDamaged =
    "the download may be incomplete or the file damaged: fetch it again";

// Takes the parser's events; anything that is not the one allowed shape of a header ends the
// parsing.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::filesystem::path& path) : path_(path) {
    header_.format = "safetensors";
  }

  TensorContents take() { return std::move(header_); }

  bool null() override { return refuse("null"); }
  bool boolean(bool value) override { return refuse(value ? "true" : "false"); }
  bool number_integer(int64_t value) override { return refuse(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { return refuse(text); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(uint64_t value) override {
    if (state_ == State::shape) return add_dimension(value);
    if (state_ != State::offsets) return refuse(std::to_string(value));
    if (offset_count_ == 2) fail("expected 2 data_offsets, got more");
    offsets_[offset_count_++] = value;
    return true;
  }

  bool string(std::string& value) override {
    if (state_ == State::metadata && has_key_) {
      has_key_ = false;
      header_.metadata[key_] = std::move(value);
      return true;
    }
    if (state_ != State::tensor || key_ != "dtype") return refuse('"' + printable(value) + '"');
    set_dtype(value);
    return true;
  }

  bool start_object(size_t) override {
    if (state_ == State::start) {
      state_ = State::top;
    } else if (state_ == State::top && has_key_) {
      state_ = name_ == "__metadata__" ? State::metadata : State::tensor;
      has_key_ = has_dtype_ = has_shape_ = has_offsets_ = false;
      entry_ = {};
      entry_.name = name_;
      offset_count_ = 0;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(std::string& value) override {
    has_key_ = true;
    if (state_ == State::top) return start_entry(value);
    key_ = value;
    if (state_ == State::metadata) {
      if (header_.metadata.contains(key_))
        fail(fmt::format("holds key '{}' twice", printable(key_)));
      return true;
    }
    bool* const seen = field_seen(key_);
    if (seen == nullptr) {
      fail(fmt::format("expected only dtype, shape and data_offsets, got '{}'", printable(key_)));
    }
    if (*seen) fail(fmt::format("holds key '{}' twice", key_));
    return *seen = true;
  }

  bool end_object() override {
    if (state_ == State::tensor) finish_entry();
    state_ = state_ == State::top ? State::done : State::top;
    has_key_ = false;
    return true;
  }

  bool start_array(size_t) override {
    if (state_ != State::tensor || (key_ != "shape" && key_ != "data_offsets")) {
      return refuse("a list");
    }
    state_ = key_ == "shape" ? State::shape : State::offsets;
    return true;
  }

  bool end_array() override {
    if (state_ == State::offsets && offset_count_ != 2) {
      fail(fmt::format("expected 2 data_offsets, got {}", offset_count_));
    }
    state_ = State::tensor;
    key_.clear();
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw Error(ErrorCode::format,
                fmt::format("{}: the header is not valid JSON at byte {}: {}; {}", path_.string(),
                            position, printable(error.what(), 200), kDamaged));
  }

 private:
  enum class State { start, top, metadata, tensor, shape, offsets, done };

  [[noreturn]] void fail(const std::string& what, ErrorCode code = ErrorCode::format,
                         const char* remedy = kDamaged) const {
    throw Error(code, fmt::format("{}: tensor '{}': {}; {}", path_.string(), printable(name_, 200),
                                  what, remedy));
  }

  bool refuse(const std::string& got) const {
    static constexpr const char* kExpected[] = {
        "an object",         "an object for every name", "a string for every metadata key",
        "dtype as a string", "whole numbers >= 0",       "whole numbers >= 0",
        "the end",
    };
    const bool list = state_ == State::tensor && key_ != "dtype";
    fail(fmt::format("expected {}, got {}",
                     list ? "shape and data_offsets as lists" : kExpected[static_cast<int>(state_)],
                     got));
  }

  bool start_entry(const std::string& name) {
    name_ = name;
    if (!names_.insert(name).second) fail("the header holds this name twice");
    if (names_.size() > kMaxEntries) {
      fail(fmt::format("expected at most {} tensors, got more", kMaxEntries));
    }
    return true;
  }

  bool* field_seen(const std::string& key) {
    if (key == "dtype") return &has_dtype_;
    if (key == "shape") return &has_shape_;
    if (key == "data_offsets") return &has_offsets_;
    return nullptr;
  }

  bool add_dimension(uint64_t value) {
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      fail(fmt::format("expected dimensions below 2^63, got {}", value));
    }
    if (entry_.shape.size() == kMaxDimensions) {
      fail(fmt::format("expected at most {} dimensions, got more", kMaxDimensions));
    }
    entry_.shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  void set_dtype(const std::string& name) {
    dtype_ = find_safetensors_dtype(name);
    key_.clear();
    if (dtype_ != nullptr) {
      entry_.dtype = dtype_->type;
    } else if (std::ranges::find(kUnsupportedDtypes, name) != std::end(kUnsupportedDtypes)) {
      fail(fmt::format("expected a dtype such as F32, F16 or BF16, got {}", name),
           ErrorCode::unsupported, "convert the file to another dtype");
    } else {
      fail(fmt::format("expected a dtype such as F32, F16 or BF16, got '{}'", printable(name)));
    }
  }

  void finish_entry() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      fail(fmt::format("expected dtype, shape and data_offsets, got no {}", !has_dtype_ ? "dtype"
                                                                            : !has_shape_
                                                                                ? "shape"
                                                                                : "data_offsets"));
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    if (entry_.begin > entry_.end) {
      fail(fmt::format("expected data_offsets in ascending order, got [{}, {}]", entry_.begin,
                       entry_.end));
    }
    uint64_t bytes = 0;
    const std::string shape = fmt::format("{}", fmt::join(entry_.shape, ", "));
    if (!checked_bytes(entry_.shape, dtype_->size, &bytes)) {
      fail(fmt::format("shape [{}] of {} is larger than any memory", shape, dtype_->name));
    }
    if (bytes != entry_.end - entry_.begin) {
      fail(fmt::format("shape [{}] of {} expected {} bytes, got {} from data_offsets [{}, {}]",
                       shape, dtype_->name, bytes, entry_.end - entry_.begin, entry_.begin,
                       entry_.end));
    }
    header_.entries.push_back(std::move(entry_));
  }

  const std::filesystem::path& path_;
  TensorContents header_;
  State state_ = State::start;
  std::unordered_set<std::string> names_;
  std::string name_;  // at the top: a tensor or "__metadata__"
  std::string key_;   // inside of it
  bool has_key_ = false, has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  TensorFile::Entry entry_{};
  const SafetensorsDtype* dtype_ = nullptr;
  std::array<uint64_t, 2> offsets_{};
  size_t offset_count_ = 0;
};

// Tensors lie end to end and fill the data.
void check_cover(const std::filesystem::path& path,
                 const std::vector<TensorFile::Entry>& entries, uint64_t data_size) {
  uint64_t end = 0;
  for (const TensorFile::Entry& entry : entries) {
    EMULSION_CHECK(entry.begin == end, format,
                   "{}: tensor '{}': expected its data to begin at byte {}, got {} ({}); {}",
                   path.string(), printable(entry.name, 200), end, entry.begin,
                   entry.begin < end ? "it overlaps another tensor" : "there is a hole before it",
                   kDamaged);
    end = entry.end;
  }
  EMULSION_CHECK(end <= data_size, format,
                 "{}: tensor '{}': expected data up to byte {}, got {} bytes of data: the file is "
                 "cut off; the "
                 "download may be incomplete: fetch it again",
                 path.string(), printable(entries.back().name, 200), end, data_size);
  EMULSION_CHECK(
      end == data_size, format,
      "{}: expected {} bytes of data, got {}: {} bytes at the end belong to no tensor; {}",
      path.string(), end, data_size, data_size - end, kDamaged);
}

}  // namespace

const SafetensorsDtype* find_safetensors_dtype(std::string_view name) {
  for (const SafetensorsDtype& dtype : kDtypes) {
    if (name == dtype.name) return &dtype;
  }
  return nullptr;
}

const SafetensorsDtype* find_safetensors_dtype(at::ScalarType type) {
  for (const SafetensorsDtype& dtype : kDtypes) {
    if (type == dtype.type) return &dtype;
  }
  return nullptr;
}

bool checked_bytes(const std::vector<int64_t>& shape, uint64_t element_size, uint64_t* bytes) {
  // Strides of an empty tensor must not overflow either, so zeros count only at the end.
  int64_t product = static_cast<int64_t>(element_size);
  bool empty = false;
  for (const int64_t size : shape) {
    empty |= size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return false;
  }
  *bytes = empty ? 0 : static_cast<uint64_t>(product);
  return true;
}

TensorContents parse_safetensors_header(const std::filesystem::path& path, std::string_view json,
                                        uint64_t data_size) {
  // The parser would take a zero byte for the end and overlook what follows.
  EMULSION_CHECK(json.find('\0') == std::string_view::npos, format,
                 "{}: the header is not valid JSON: it holds a zero byte; {}", path.string(),
                 kDamaged);
  HeaderReader reader(path);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  TensorContents header = reader.take();
  std::ranges::stable_sort(header.entries, [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_cover(path, header.entries, data_size);
  return header;
}

}  // namespace emulsion::io
