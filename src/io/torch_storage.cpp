#include "io/torch_storage.h"

#include "core/error.h"
#include "io/content.h"

namespace emulsion::io {
namespace {

constexpr const char* kStorageDamaged = "the file is damaged or hostile: fetch it again";

// Whether `count` elements of `width` bytes, from element `begin` on, lie within `bytes`.
bool fits(int64_t begin, int64_t count, uint64_t width, uint64_t bytes) {
  return begin >= 0 && count >= 0 &&
         static_cast<unsigned __int128>(begin) + static_cast<unsigned __int128>(count) <=
             bytes / width;
}

}  // namespace

std::optional<std::string> key_text(const PickleNode& node) {
  switch (node.kind) {
    case PickleKind::text:
    case PickleKind::bytes:
      return std::string(node.text);
    case PickleKind::integer:
      return std::to_string(node.integer);
    case PickleKind::global:
      return fmt::format("{}.{}", node.global->module, node.global->name);
    default:
      return std::nullopt;
  }
}

StorageId storage_id(const std::filesystem::path& path, const Pickle& pickle,
                     const PickleNode& persistent) {
  const auto& items = pickle[persistent.items[0]].items;
  const auto kind = [&](size_t i) {
    return i < items.size() ? pickle[items[i]].kind : PickleKind::none;
  };
  const bool valid = items.size() >= 5 && items.size() <= 6 && kind(1) == PickleKind::global &&
                     pickle[items[1]].global->role == PickleRole::storage &&
                     key_text(pickle[items[2]]) && kind(4) == PickleKind::integer;
  const uint64_t width = valid ? at::elementSize(pickle[items[1]].global->dtype) : 1;
  const int64_t count = valid ? pickle[items[4]].integer : 0;
  if (!valid || !fits(0, count, width, INT64_MAX)) {
    refuse_pickle(path, persistent.at,
                  fmt::format("expected the id of a storage (class, key, location, elements), got "
                              "other values; {}",
                              kStorageDamaged));
  }
  StorageId id;
  id.key = *key_text(pickle[items[2]]);
  id.storage = {pickle[items[1]].global->dtype, static_cast<uint64_t>(count) * width};
  id.view_bytes = id.storage.bytes;
  if (kind(5) == PickleKind::none) return id;
  // Before PyTorch 1.0, part of a storage: (key, first element, elements).
  const auto& view = pickle[items[5]].items;
  const bool within =
      kind(5) == PickleKind::tuple && view.size() == 3 &&
      pickle[view[1]].kind == PickleKind::integer && pickle[view[2]].kind == PickleKind::integer &&
      fits(pickle[view[1]].integer, pickle[view[2]].integer, width, id.storage.bytes);
  if (!within) {
    refuse_pickle(
        path, persistent.at,
        fmt::format("storage '{}': expected a part of its {} elements, got other values; {}",
                    printable(id.key), count, kStorageDamaged));
  }
  id.view_begin = static_cast<uint64_t>(pickle[view[1]].integer) * width;
  id.view_bytes = static_cast<uint64_t>(pickle[view[2]].integer) * width;
  return id;
}

std::map<std::string, TorchStorage> find_storages(const std::filesystem::path& path,
                                                  const Pickle& pickle) {
  std::map<std::string, TorchStorage> storages;
  for (const PickleNode& node : pickle.nodes) {
    if (node.kind != PickleKind::persistent) continue;
    const StorageId id = storage_id(path, pickle, node);
    const TorchStorage& known = storages.try_emplace(id.key, id.storage).first->second;
    if (known.dtype != id.storage.dtype || known.bytes != id.storage.bytes) {
      refuse_pickle(path, node.at,
                    fmt::format("storage '{}': expected {} bytes of {} as before, got {} of {}; {}",
                                printable(id.key), known.bytes, toString(known.dtype),
                                id.storage.bytes, toString(id.storage.dtype), kStorageDamaged));
    }
  }
  return storages;
}

}  // namespace emulsion::io
