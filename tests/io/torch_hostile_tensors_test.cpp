#include <fmt/format.h>

#include "io/torch_builder.h"
#include "io/torch_hostile_files.h"

namespace emulsion::test {
namespace {

// --- Tensors
// -----------------------------------------------------------------------------------------

void add_tensor(std::vector<HostileFile>& files, const std::string& what, int64_t offset,
                const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                const std::vector<std::string>& said) {
  for (const bool legacy : {false, true}) {
    const std::string body =
        dict(text("w") + tensor(storage(6, "0", legacy ? "N" : ""), offset, shape, strides));
    files.push_back({what + (legacy ? " (legacy)" : " (zip)"),
                     legacy ? legacy_file(body) : zip_file(body), said});
  }
}

void add_layouts(std::vector<HostileFile>& files) {
  add_tensor(files, "a tensor larger than its storage", 0, {7}, {1},
             {"'w'", "within the 6 elements"});
  add_tensor(files, "a tensor that begins too late", 1, {2, 3}, {3, 1}, {"'w'", "offset 1"});
  add_tensor(files, "an empty tensor beyond its storage", 7, {0}, {1}, {"within the 6 elements"});
  add_tensor(files, "a negative offset", -1, {2}, {1}, {"offset -1"});
  add_tensor(files, "a negative size", 0, {-2}, {1}, {"not negative"});
  add_tensor(files, "a negative stride", 5, {6}, {-1}, {"not negative"});
  add_tensor(files, "a stride that overflows", 0, {5}, {INT64_MAX / 2}, {"within the 6 elements"});
  add_tensor(files, "strides that overflow together", 0, {2, 2, 2, 2, 2},
             std::vector<int64_t>(5, INT64_MAX), {"within the 6"});
  add_tensor(files, "an offset that overflows", INT64_MAX, {6}, {1}, {"within the 6 elements"});
  add_tensor(files, "sizes that overflow", 0, {1ll << 32, 1ll << 32}, {0, 0},
             {"as many elements as the file could hold"});
  add_tensor(files, "sizes that overflow beside a zero", 0, {0, INT64_MAX, INT64_MAX}, {0, 0, 0},
             {"as many elements"});
  add_tensor(files, "a number repeated 2^40 times", 0, {1ll << 40}, {0},
             {"as many elements as the file could hold"});
  add_tensor(files, "65 dimensions", 0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1),
             {"at most 64"});
  add_tensor(files, "a stride too few", 0, {2, 3}, {3}, {"expected 2 strides"});

  const std::string beside = text("good") + good_tensor();
  const auto zip = [&](const std::string& what, const std::string& value,
                       const std::vector<std::string>& said) {
    files.push_back({what, zip_file(dict(text("w") + value)), said});
  };
  const std::string v2 = global("torch._utils", "_rebuild_tensor_v2");
  zip("a tensor of a text", call(v2, text("a") + integer(0) + numbers({1}) + numbers({1})),
      {"expected a storage"});
  zip("a tensor of too little", call(v2, storage(6)), {"expected a storage, an offset"});
  zip("a tensor without arguments", v2 + ")R" + beside, {"expected a storage, an offset"});
  zip("a shape that is a list", call(v2, storage(6) + integer(0) + "]" + numbers({1})),
      {"shape", "a list"});
  zip("a shape of texts", call(v2, storage(6) + integer(0) + tuple(text("6")) + numbers({1})),
      {"shape"});
  zip("an offset beyond 64 bits",
      call(v2,
           storage(6) + "\x8a\x09"s + std::string(8, '\0') + "\1" + numbers({1}) + numbers({1})),
      {"expected a storage, an offset"});
  zip("a conjugate view", tensor(storage(6), 0, {6}, {1}, "\x89}" + dict(text("conj") + "\x88")),
      {"conjugate"});
  zip("version 3 without a dtype",
      tensor(storage(24, "0", "", "ByteStorage"), 0, {6}, {1}, "\x89}", "_rebuild_tensor_v3"),
      {"expected a dtype", "none"});
  zip("version 3 with a storage for a dtype",
      tensor(storage(24, "0", "", "ByteStorage"), 0, {6}, {1},
             "\x89}" + global("torch", "FloatStorage"), "_rebuild_tensor_v3"),
      {"expected a dtype"});
  zip("a wider dtype than the storage's",
      tensor(storage(24, "0", "", "ByteStorage"), 0, {6}, {1}, "\x89}" + global("torch", "float64"),
             "_rebuild_tensor_v3"),
      {"within the 3 elements"});
  const std::string parameter = global("torch._utils", "_rebuild_parameter");
  zip("a parameter of nothing", parameter + ")R" + beside, {"parameter made of a tensor"});
  zip("a parameter of a text", call(parameter, text("a")) + beside,
      {"parameter made of a tensor", "a text"});
  zip("a parameter of a parameter", call(parameter, call(parameter, good_tensor())),
      {"parameter made of a tensor"});
  zip("a key that is a tuple", dict(")" + good_tensor()), {"as a key", "a tuple"});
  zip("a key that is a tensor", dict(good_tensor() + "N"), {"as a key", "a tensor"});
  files.push_back(
      {"only a text", Archive{{{"a/data.pkl", pickle(text("a"))}}}.bytes(), {"without any"}});
  files.push_back({"a name twice",
                   zip_file(dict(text("a") + good_tensor() + text("a") + good_tensor())),
                   {"'a'", "twice"}});
  files.push_back(
      {"a name twice, once by way of a dict",
       zip_file(dict(text("a.b") + good_tensor() + text("a") + dict(text("b") + good_tensor()))),
       {"'a.b'", "twice"}});
  zip("a tensor and a number of one name", dict("K\1" + good_tensor() + text("1") + "K\1"),
      {"'w.1'", "twice"});

  const auto id = [&](const std::string& items) { return tensor(tuple(items) + "Q", 0, {6}, {1}); };
  const std::string kind = global("torch", "FloatStorage");
  zip("a storage without a class",
      id(text("storage") + text("FloatStorage") + text("0") + text("cpu") + integer(6)),
      {"id of a storage"});
  zip("a storage of a function",
      id(text("storage") + global("torch._utils", "_rebuild_tensor") + text("0") + text("cpu") +
         integer(6)),
      {"id of a storage"});
  zip("a storage of four things", id(text("storage") + kind + text("0") + text("cpu")),
      {"id of a storage"});
  zip("a storage with a negative size", tensor(storage(-6), 0, {6}, {1}), {"id of a storage"});
  zip("a storage whose size overflows", tensor(storage(INT64_MAX), 0, {6}, {1}),
      {"id of a storage"});
  zip("a storage with a list as key", id(text("storage") + kind + "]" + text("cpu") + integer(6)),
      {"id of a storage"});
  zip("a storage of another size elsewhere", list(good_tensor() + tensor(storage(5), 0, {1}, {1})),
      {"24 bytes of Float as before", "got 20"});
  zip("a storage of another dtype elsewhere",
      list(good_tensor() + tensor(storage(6, "0", "", "IntStorage"), 0, {1}, {1})),
      {"got 24 of Int"});
  zip("a storage that is no record", tensor(storage(6, "1"), 0, {6}, {1}),
      {"'data/1'", "got none"});
  zip("a storage outside the archive", tensor(storage(6, "../../../etc/passwd"), 0, {6}, {1}),
      {"got none"});
  zip("a part beyond the storage",
      tensor(storage(6, "0", tuple(text("v") + integer(5) + integer(2))), 0, {1}, {1}),
      {"part of its 6 elements"});
  zip("a part that is no part", tensor(storage(6, "0", tuple(text("v"))), 0, {1}, {1}),
      {"part of its 6 elements"});
}

}  // namespace

void add_hostile_tensors(std::vector<HostileFile>& files) { add_layouts(files); }

}  // namespace emulsion::test
