#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/content.h"
#include "io/hash.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"

namespace emulsion::io {
namespace {

constexpr int64_t kPiece = 16 << 20;  // bytes copied at a time where data does not lie in order

struct Item {
  const std::string* name;
  const Tensor* tensor;
  const SafetensorsDtype* dtype;
};

std::string quoted(const std::filesystem::path& path, const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::format,
                fmt::format("{}: expected UTF-8 in names and metadata, got '{}'; re-encode it",
                            path.string(), printable(text)));
  }
}

Item checked_item(const std::filesystem::path& path, const std::string& name,
                  const Tensor& tensor) {
  EMULSION_CHECK(
      !name.empty() && name != "__metadata__", format,
      "{}: expected a name for every tensor, got '{}', which the format reserves; rename it",
      path.string(), name);
  EMULSION_CHECK(
      tensor.defined() && tensor.layout() == at::kStrided && !tensor.is_meta(), unsupported,
      "{}: tensor '{}': expected a dense tensor with data; densify it first", path.string(), name);
  const SafetensorsDtype* dtype = find_safetensors_dtype(tensor.scalar_type());
  EMULSION_CHECK(dtype != nullptr, unsupported,
                 "{}: tensor '{}': expected a dtype that safetensors has, got {}; convert it first",
                 path.string(), name, c10::toString(tensor.scalar_type()));
  return {&name, &tensor, dtype};
}

// The reference implementation's order: by dtype, wider ones first, then by name.
std::vector<Item> sorted_items(const std::filesystem::path& path, const NamedTensors& tensors) {
  std::vector<Item> items;
  items.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) items.push_back(checked_item(path, name, tensor));
  std::ranges::sort(items, [](const Item& a, const Item& b) {
    return std::tie(b.dtype->rank, *a.name) < std::tie(a.dtype->rank, *b.name);
  });
  std::unordered_set<std::string_view> names;
  for (const Item& item : items) {
    EMULSION_CHECK(names.insert(*item.name).second, format,
                   "{}: tensor '{}': expected every name once, got it twice; rename one",
                   path.string(), *item.name);
  }
  return items;
}

std::string metadata_json(const std::filesystem::path& path,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> pairs;
  for (const auto& [key, value] : metadata) {
    pairs.push_back(quoted(path, key) + ":" + quoted(path, value));
  }
  return fmt::format("\"__metadata__\":{{{}}}", fmt::join(pairs, ","));
}

// Fills `data_size`. Padded so that the data begins at a multiple of 8 bytes.
std::string header_json(const std::filesystem::path& path, const std::vector<Item>& items,
                        const std::map<std::string, std::string>& metadata, uint64_t* data_size) {
  std::vector<std::string> parts;
  if (!metadata.empty()) parts.push_back(metadata_json(path, metadata));
  uint64_t begin = 0;
  for (const Item& item : items) {
    const uint64_t end = begin + item.tensor->nbytes();
    parts.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                quoted(path, *item.name), item.dtype->name,
                                fmt::join(item.tensor->sizes(), ","), begin, end));
    begin = end;
  }
  *data_size = begin;
  std::string json = fmt::format("{{{}}}", fmt::join(parts, ","));
  json.resize((json.size() + 7) / 8 * 8, ' ');
  return json;
}

// Halves what does not lie in order until a copy of it is small. `Sink` has write(data, size).
template <class Sink>
void write_in_order(Sink& file, const Tensor& tensor) {
  const int64_t size = static_cast<int64_t>(tensor.nbytes());
  if (size == 0) return;
  if (tensor.is_cpu() && tensor.is_contiguous()) {
    file.write(tensor.const_data_ptr(), static_cast<size_t>(size));
  } else if (size <= kPiece || tensor.dim() == 0) {
    write_in_order(file, tensor.cpu().contiguous());
  } else if (tensor.size(0) == 1) {
    write_in_order(file, tensor.select(0, 0));
  } else {
    const int64_t half = tensor.size(0) / 2;
    write_in_order(file, tensor.narrow(0, 0, half));
    write_in_order(file, tensor.narrow(0, half, tensor.size(0) - half));
  }
}

struct HashSink {
  Sha256 hash;
  void write(const void* data, size_t size) { hash.update(data, size); }
};

}  // namespace

std::string safetensors_data_sha256(const NamedTensors& tensors) {
  HashSink sink;
  for (const Item& item : sorted_items("", tensors)) write_in_order(sink, item.tensor->detach().resolve_neg());
  return sink.hash.finish();
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::vector<Item> items = sorted_items(path, tensors);
  uint64_t data_size = 0;
  const std::string json = header_json(path, items, metadata, &data_size);
  const uint64_t length = json.size();
  AtomicFile file(path, sizeof(length) + length + data_size);
  file.write(&length, sizeof(length));
  file.write(json);
  for (const Item& item : items) write_in_order(file, item.tensor->detach().resolve_neg());
  file.commit();
}

}  // namespace emulsion::io
