#include "io/torch_tensors.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/error.h"
#include "io/content.h"

namespace emulsion::io {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxPlaces = 500'000;      // names, counted once per way that leads there
constexpr size_t kMaxNameBytes = 64 << 20;  // of all of them
constexpr size_t kMaxListAsText = 1'024;
constexpr size_t kMaxListBytes = 64 << 10;
constexpr size_t kMaxTorchDimensions = 64;
constexpr uint64_t kAlwaysAllowed = 64 << 20;  // bytes of a tensor that repeats its storage
constexpr const char* kTensorDamaged = "the file is damaged or hostile: fetch it again";

// --- Values --------------------------------------------------------------------------------------

bool is_plain(PickleKind kind) {
  return kind == PickleKind::text || kind == PickleKind::integer || kind == PickleKind::real ||
         kind == PickleKind::boolean || kind == PickleKind::none;
}

// As Python's str() has it.
std::string plain_text(const PickleNode& node) {
  if (node.kind == PickleKind::none) return "None";
  if (node.kind == PickleKind::boolean) return node.integer != 0 ? "True" : "False";
  if (node.kind == PickleKind::integer) return std::to_string(node.integer);
  if (node.kind == PickleKind::text) return std::string(node.text);
  const std::string text = fmt::format("{}", node.real);
  return std::isfinite(node.real) && text.find_first_of(".e") == text.npos ? text + ".0" : text;
}

// A view on a storage, in elements.
struct TensorLayout {
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;

  bool is_row_major() const {
    int64_t stride = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] != 1 && strides[i] != stride) return false;
      stride *= shape[i];
    }
    return true;
  }
};

class TensorFinder {
 public:
  TensorFinder(const TorchFileFacts& file, const Pickle& pickle,
               const std::map<std::string, TorchStorage>& storages)
      : file_(file), pickle_(pickle), storages_(storages) {}

  TensorContents find();

 private:
  [[noreturn]] void refuse(const PickleNode& node, const std::string& message) const {
    refuse_pickle(file_.path, node.at, message);
  }
  std::string where() const { return "'" + printable(name_, 200) + "'"; }

  void visit(PickleRef ref);
  void visit_child(const PickleNode& parent, const std::string& key, PickleRef child);
  bool add_list_as_text(const PickleNode& list);
  void add_metadata(const PickleNode& node, std::string value);
  void claim_name(const PickleNode& node);
  void add_tensor(const PickleNode& call);
  TensorLayout layout(const PickleNode& call, const std::vector<PickleRef>& arguments) const;
  std::vector<int64_t> numbers(const PickleNode& call, PickleRef tuple, const char* what) const;
  at::ScalarType dtype(const PickleNode& call, const std::vector<PickleRef>& arguments,
                       const StorageId& id) const;
  void check_size(const PickleNode& call, const TensorLayout& layout, uint64_t width) const;
  uint64_t check_within(const PickleNode& call, const TensorLayout& layout, uint64_t width,
                        const StorageId& id) const;

  const TorchFileFacts& file_;
  const Pickle& pickle_;
  const std::map<std::string, TorchStorage>& storages_;
  TensorContents contents_;
  std::string name_;  // of the place that is visited
  size_t depth_ = 0, places_ = 0, name_bytes_ = 0;
  std::unordered_set<std::string> names_;
};

TensorContents TensorFinder::find() {
  visit(pickle_.root);
  EMULSION_CHECK(!contents_.entries.empty(), format,
                 "{}: expected tensors, got a file of torch.save without any; give a checkpoint",
                 file_.path.string());
  std::ranges::stable_sort(contents_.entries, {}, &TensorFile::Entry::begin);
  return std::move(contents_);
}

void TensorFinder::visit_child(const PickleNode& parent, const std::string& key, PickleRef child) {
  name_bytes_ += name_.size() + key.size() + 1;
  if (++places_ > kMaxPlaces || name_bytes_ > kMaxNameBytes || depth_ == kMaxDepth) {
    refuse(parent, fmt::format("{}: expected at most {} values with {} bytes of names, nested {} "
                               "deep, got more; the file is hostile",
                               where(), kMaxPlaces, kMaxNameBytes, kMaxDepth));
  }
  const size_t length = name_.size();
  if (depth_ > 0) name_ += '.';
  name_ += key;
  ++depth_;
  visit(child);
  --depth_;
  name_.resize(length);
}

void TensorFinder::visit(PickleRef ref) {
  const PickleNode& node = pickle_[ref];
  switch (node.kind) {
    case PickleKind::dict:
      for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
        const PickleNode& key = pickle_[node.items[i]];
        const std::optional<std::string> text = key_text(key);
        if (!text) {
          refuse(key,
                 fmt::format("{}: expected a text or number as a key, got {}; save the weights "
                             "alone, as a dict of tensors",
                             where(), to_string(key.kind)));
        }
        visit_child(node, *text, node.items[i + 1]);
      }
      break;
    case PickleKind::list:
    case PickleKind::tuple:
      if (add_list_as_text(node)) break;
      for (size_t i = 0; i < node.items.size(); ++i) {
        visit_child(node, std::to_string(i), node.items[i]);
      }
      break;
    case PickleKind::call:
      add_tensor(node);
      break;
    case PickleKind::text:
    case PickleKind::integer:
    case PickleKind::real:
    case PickleKind::boolean:
      add_metadata(node, plain_text(node));
      break;
    default:  // no tensor and no value
      break;
  }
}

bool TensorFinder::add_list_as_text(const PickleNode& list) {
  const bool plain =
      std::ranges::all_of(list.items, [&](PickleRef ref) { return is_plain(pickle_[ref].kind); });
  if (!plain) return false;
  places_ += list.items.size() / 8;
  if (list.items.empty() || list.items.size() > kMaxListAsText) return true;
  std::string text;
  for (const PickleRef ref : list.items) {
    if (text.size() > kMaxListBytes) return true;
    const bool quoted = pickle_[ref].kind == PickleKind::text;
    text += text.empty() ? "" : ", ";
    text += quoted ? "'" + plain_text(pickle_[ref]) + "'" : plain_text(pickle_[ref]);
  }
  add_metadata(list, "[" + text + "]");
  return true;
}

void TensorFinder::add_metadata(const PickleNode& node, std::string value) {
  if (depth_ == 0) return;
  name_bytes_ += value.size();
  claim_name(node);
  contents_.metadata[name_] = std::move(value);
}

void TensorFinder::claim_name(const PickleNode& node) {
  if (!names_.insert(name_).second) {
    refuse(node,
           fmt::format("{}: expected each name once, got it twice; {}", where(), kTensorDamaged));
  }
}

// --- Tensors -------------------------------------------------------------------------------------

std::vector<int64_t> TensorFinder::numbers(const PickleNode& call, PickleRef tuple,
                                           const char* what) const {
  const PickleNode& node = pickle_[tuple];
  std::vector<int64_t> values;
  bool valid = node.kind == PickleKind::tuple && node.items.size() <= kMaxTorchDimensions;
  for (size_t i = 0; valid && i < node.items.size(); ++i) {
    const PickleNode& number = pickle_[node.items[i]];
    valid = number.kind == PickleKind::integer && number.integer >= 0;
    values.push_back(number.integer);
  }
  if (!valid) {
    refuse(call,
           fmt::format("tensor {}: expected a {} of at most {} numbers that are not negative, "
                       "got {}; {}",
                       where(), what, kMaxTorchDimensions,
                       node.kind == PickleKind::tuple ? "others" : to_string(node.kind),
                       kTensorDamaged));
  }
  return values;
}

TensorLayout TensorFinder::layout(const PickleNode& call,
                                  const std::vector<PickleRef>& arguments) const {
  TensorLayout layout;
  layout.offset = pickle_[arguments[1]].integer;
  layout.shape = numbers(call, arguments[2], "shape");
  layout.strides = numbers(call, arguments[3], "list of strides");
  if (layout.strides.size() != layout.shape.size()) {
    refuse(call, fmt::format("tensor {}: expected {} strides for the shape [{}], got {}; {}",
                             where(), layout.shape.size(), fmt::join(layout.shape, ", "),
                             layout.strides.size(), kTensorDamaged));
  }
  return layout;
}

at::ScalarType TensorFinder::dtype(const PickleNode& call, const std::vector<PickleRef>& arguments,
                                   const StorageId& id) const {
  if (call.global->role != PickleRole::rebuild_tensor_v3) return id.storage.dtype;
  const PickleNode* const named = arguments.size() > 6 ? &pickle_[arguments[6]] : nullptr;
  if (named == nullptr || named->kind != PickleKind::global ||
      named->global->role != PickleRole::dtype) {
    refuse(call, fmt::format("tensor {}: expected a dtype as its argument 7, got {}; {}", where(),
                             named == nullptr ? "none" : to_string(named->kind), kTensorDamaged));
  }
  return named->global->dtype;
}

// A tensor may repeat its storage (stride 0), yet not so that using it would take all memory.
void TensorFinder::check_size(const PickleNode& call, const TensorLayout& layout,
                              uint64_t width) const {
  const uint64_t most = std::max(file_.size, kAlwaysAllowed) / width;
  unsigned __int128 count = 1;
  for (const int64_t size : layout.shape) {
    count *= static_cast<unsigned __int128>(std::max<int64_t>(size, 1));
    if (count > most) {
      refuse(call,
             fmt::format("tensor {}: expected at most as many elements as the file could hold, "
                         "got the shape [{}]; {}",
                         where(), fmt::join(layout.shape, ", "), kTensorDamaged));
    }
  }
}

// Returns the number of elements from the first to the last, 0 if there are none.
uint64_t TensorFinder::check_within(const PickleNode& call, const TensorLayout& layout,
                                    uint64_t width, const StorageId& id) const {
  const bool none = std::ranges::count(layout.shape, 0) > 0;
  unsigned __int128 span = none ? 0 : 1;
  for (size_t i = 0; !none && i < layout.shape.size(); ++i) {
    span += static_cast<unsigned __int128>(layout.shape[i] - 1) *
            static_cast<unsigned __int128>(layout.strides[i]);
  }
  const bool within = layout.offset >= 0 &&
                      span + static_cast<unsigned __int128>(layout.offset) <= id.view_bytes / width;
  if (!within) {
    refuse(call, fmt::format("tensor {}: expected it within the {} elements of storage '{}', got "
                             "offset {}, shape [{}], strides [{}]; {}",
                             where(), id.view_bytes / width, printable(id.key), layout.offset,
                             fmt::join(layout.shape, ", "), fmt::join(layout.strides, ", "),
                             kTensorDamaged));
  }
  return static_cast<uint64_t>(span);
}

void TensorFinder::add_tensor(const PickleNode& call) {
  const std::vector<PickleRef>& arguments = pickle_[call.items[0]].items;
  if (call.global->role == PickleRole::rebuild_parameter) {
    const PickleNode* const data = arguments.empty() ? nullptr : &pickle_[arguments[0]];
    if (data == nullptr || data->kind != PickleKind::call ||
        data->global->role == PickleRole::rebuild_parameter) {
      refuse(call,
             fmt::format("tensor {}: expected a parameter made of a tensor, got {}; {}", where(),
                         data == nullptr ? "nothing" : to_string(data->kind), kTensorDamaged));
    }
    return add_tensor(*data);
  }
  const bool valid = arguments.size() >= 4 &&
                     pickle_[arguments[0]].kind == PickleKind::persistent &&
                     pickle_[arguments[1]].kind == PickleKind::integer;
  if (!valid) {
    refuse(call, fmt::format("tensor {}: expected a storage, an offset, a shape and strides, got "
                             "other arguments; {}",
                             where(), kTensorDamaged));
  }
  // The last argument tells of tensors whose numbers are to be conjugated or negated.
  const PickleNode& last = pickle_[arguments.back()];
  const size_t hooks = 5;
  if (arguments.size() > hooks + 1 && last.kind == PickleKind::dict && !last.items.empty()) {
    refuse(call, fmt::format("tensor {}: expected plain numbers, got a tensor with a conjugate or "
                             "negative bit; save it again after .resolve_conj().resolve_neg()",
                             where()));
  }
  const StorageId id = storage_id(file_.path, pickle_, pickle_[arguments[0]]);
  TensorLayout layout = this->layout(call, arguments);
  TensorFile::Entry entry;
  entry.name = depth_ == 0 ? "tensor" : name_;
  entry.dtype = dtype(call, arguments, id);
  const uint64_t width = at::elementSize(entry.dtype);
  check_size(call, layout, width);
  const uint64_t span = check_within(call, layout, width, id);
  claim_name(call);
  entry.begin =
      storages_.at(id.key).begin + id.view_begin + static_cast<uint64_t>(layout.offset) * width;
  entry.end = entry.begin + span * width;
  entry.byte_swapped = file_.byte_swapped && width > 1;
  if (span > 0 && !layout.is_row_major()) entry.strides = std::move(layout.strides);
  entry.shape = std::move(layout.shape);
  contents_.entries.push_back(std::move(entry));
}

}  // namespace

TensorContents find_tensors(const TorchFileFacts& file, const Pickle& pickle,
                            const std::map<std::string, TorchStorage>& storages) {
  return TensorFinder(file, pickle, storages).find();
}

}  // namespace emulsion::io
