#include "io/torch_write.h"

#include <zlib.h>

#include <bit>
#include <cstring>

#include "core/error.h"
#include "io/atomic_file.h"

namespace emulsion::io {
namespace {

static_assert(std::endian::native == std::endian::little);

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string_view bytes_of(const Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), static_cast<size_t>(contiguous.nbytes())};
}

/// The pickle of a value, and the tensors that it refers to by number.
class Pickler {
 public:
  explicit Pickler(const PythonValue& root) {
    out_ = "\x80\x02";
    write(root);
    out_ += '.';
  }
  const std::string& bytes() const { return out_; }
  const std::vector<Tensor>& storages() const { return storages_; }

 private:
  void write(const PythonValue& value) {
    std::visit([this](const auto& held) { write(held); }, value.value);
  }
  void write(PythonValue::None) { out_ += 'N'; }
  void write(bool value) { out_ += value ? '\x88' : '\x89'; }
  void write(int64_t value) {
    if (value == static_cast<int32_t>(value)) {
      out_ += 'J';
      append(out_, static_cast<int32_t>(value));
    } else {
      out_ += "\x8a\x08";
      append(out_, value);
    }
  }
  void write(double value) {
    out_ += 'G';
    append(out_, __builtin_bswap64(std::bit_cast<uint64_t>(value)));
  }
  void write(const std::string& value) {
    out_ += 'X';
    append(out_, static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void write(const PythonValue::List& list) {
    out_ += "](";
    for (const PythonValue& item : list.items) write(item);
    out_ += 'e';
  }
  void write(const PythonValue::Tuple& tuple) {
    out_ += '(';
    for (const PythonValue& item : tuple.items) write(item);
    out_ += 't';
  }
  void write(const PythonValue::Dict& dict) {
    out_ += "}(";
    for (const auto& [key, item] : dict.items) {
      write(key);
      write(item);
    }
    out_ += 'u';
  }

  void global(const std::string& module, const std::string& name) { out_ += 'c' + module + '\n' + name + '\n'; }
  void numbers(at::IntArrayRef values) {
    out_ += '(';
    for (const int64_t value : values) write(value);
    out_ += 't';
  }

  /// torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks).
  void write(const Tensor& given) {
    const Tensor tensor = given.detach().cpu().contiguous();
    const bool is_float = tensor.scalar_type() == at::kFloat;
    EMULSION_CHECK(is_float || tensor.scalar_type() == at::kBFloat16, unsupported,
                   "[torch file] expected float32 or bfloat16, got {}", at::toString(tensor.scalar_type()));
    global("torch._utils", "_rebuild_tensor_v2");
    out_ += "((";
    write(std::string("storage"));
    global("torch", is_float ? "FloatStorage" : "BFloat16Storage");
    write(std::to_string(storages_.size()));
    write(std::string("cpu"));
    write(tensor.numel());
    out_ += "tQ";
    write(int64_t{0});
    numbers(tensor.sizes());
    numbers(tensor.strides());
    write(false);
    global("collections", "OrderedDict");
    out_ += ")RtR";
    storages_.push_back(tensor);
  }

  std::string out_;
  std::vector<Tensor> storages_;
};

/// A ZIP archive without compression. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
class ZipWriter {
 public:
  explicit ZipWriter(const std::filesystem::path& path) : file_(path) {}

  void add(const std::string& name, std::string_view bytes) {
    EMULSION_CHECK(position_ + bytes.size() < UINT32_MAX, unsupported, "{}: files of torch.save beyond 4 GB are not built",
                   file_.path().string());
    const auto sum = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
    std::string common;  // what the record's header and the directory say alike
    append<uint16_t>(common, 20);
    append<uint16_t>(common, 0);
    append<uint16_t>(common, 0);
    append<uint32_t>(common, 0x00210000);  // 1980-01-01: the same file every time
    append<uint32_t>(common, sum);
    append<uint32_t>(common, static_cast<uint32_t>(bytes.size()));
    append<uint32_t>(common, static_cast<uint32_t>(bytes.size()));
    append<uint16_t>(common, static_cast<uint16_t>(name.size()));
    append<uint16_t>(common, 0);
    directory_ += "PK\x01\x02" + std::string("\x14\0", 2) + common + std::string(10, '\0');
    append<uint32_t>(directory_, static_cast<uint32_t>(position_));
    directory_ += name;
    write("PK\x03\x04" + common + name);
    write(bytes);
    ++count_;
  }

  void commit() {
    std::string end("PK\x05\x06\0\0\0\0", 8);
    append<uint16_t>(end, count_);
    append<uint16_t>(end, count_);
    append<uint32_t>(end, static_cast<uint32_t>(directory_.size()));
    append<uint32_t>(end, static_cast<uint32_t>(position_));
    append<uint16_t>(end, 0);
    write(directory_);
    write(end);
    file_.commit();
  }

 private:
  void write(std::string_view bytes) {
    file_.write(bytes);
    position_ += bytes.size();
  }

  AtomicFile file_;
  std::string directory_;
  uint64_t position_ = 0;
  uint16_t count_ = 0;
};

}  // namespace

void write_torch_file(const std::filesystem::path& path, const PythonValue& root) {
  const Pickler pickle(root);
  EMULSION_CHECK(pickle.storages().size() < 65000, unsupported, "{}: more than 65,000 tensors are not built", path.string());
  ZipWriter zip(path);
  zip.add("archive/data.pkl", pickle.bytes());
  zip.add("archive/byteorder", "little");
  for (size_t i = 0; i < pickle.storages().size(); ++i)
    zip.add("archive/data/" + std::to_string(i), bytes_of(pickle.storages()[i]));
  zip.add("archive/version", "3\n");
  zip.commit();
}

}  // namespace emulsion::io
