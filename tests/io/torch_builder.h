// Files of torch.save put together by hand: opcodes of pickles, records of ZIP archives, the older
// format. Everything can be made wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::test {

using namespace std::string_literals;

/// A number in `width` bytes, little-endian.
inline std::string le(uint64_t value, size_t width) {
  std::string bytes;
  for (size_t i = 0; i < width; ++i) bytes += static_cast<char>(i < sizeof value ? value >> 8 * i : 0);
  return bytes;
}

// --- Pickles -------------------------------------------------------------------------------------

inline std::string text(const std::string& value) { return "X" + le(value.size(), 4) + value; }
inline std::string integer(int64_t value) {
  return "\x8a\x08"s + le(static_cast<uint64_t>(value), 8);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::string& items) { return "(" + items + "t"; }
inline std::string list(const std::string& items) { return "](" + items + "e"; }
inline std::string dict(const std::string& pairs) { return "}(" + pairs + "u"; }
inline std::string call(const std::string& function, const std::string& arguments) {
  return function + tuple(arguments) + "R";
}
inline std::string pickle(const std::string& body) { return "\x80\x02"s + body + "."; }

inline std::string numbers(const std::vector<int64_t>& values) {
  std::string items;
  for (const int64_t value : values) items += integer(value);
  return tuple(items);
}

/// `last`: "N" in the older format.
inline std::string storage(int64_t elements, const std::string& key = "0",
                           const std::string& last = "", const std::string& kind = "FloatStorage") {
  return tuple(text("storage") + global("torch", kind) + text(key) + text("cpu") +
               integer(elements) + last) +
         "Q";
}

/// A tensor as _rebuild_tensor_v2 makes it; `hooks`: what follows the strides.
inline std::string tensor(const std::string& storage, int64_t offset,
                          const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                          const std::string& more = "\x89}",
                          const std::string& function = "_rebuild_tensor_v2") {
  return call(global("torch._utils", function),
              storage + integer(offset) + numbers(shape) + numbers(strides) + more);
}

/// Six float32 as [2,3] in storage 0.
inline std::string good_tensor(const std::string& last = "") {
  return tensor(storage(6, "0", last), 0, {2, 3}, {3, 1});
}

// --- ZIP archives --------------------------------------------------------------------------------

struct Record {
  std::string name, data;
  uint16_t flags = 0, method = 0;
  // What the header in front of the data says, where that differs; and the directory.
  std::string local_name = {};
  int local_flags = -1, local_method = -1;
  int64_t local_size = -1, listed_size = -1, listed_compressed = -1, listed_offset = -1;
  std::string gap = {};  // behind the data
  std::string entry_comment = {};
  std::string extra = {};  // of the directory's entry
};

struct Archive {
  std::vector<Record> records;
  std::string comment = {}, appended = {}, before_directory = {};
  int64_t count = -1, directory_size = -1, directory_offset = -1;
  uint16_t disk = 0;
  std::string before_end = {};  // between directory and end record

  std::string bytes() const {
    std::string out, directory;
    for (const Record& r : records) {
      const uint64_t offset = out.size(), size = r.data.size();
      const std::string& name = r.local_name.empty() ? r.name : r.local_name;
      const uint64_t here = r.local_size < 0 ? size : static_cast<uint64_t>(r.local_size);
      out += "PK\3\4\0\0"s + le(r.local_flags < 0 ? r.flags : r.local_flags, 2) +
             le(r.local_method < 0 ? r.method : r.local_method, 2) + le(0, 8) + le(here, 4) +
             le(here, 4) + le(name.size(), 2) + le(0, 2) + name + r.data + r.gap;
      const auto listed = [](int64_t given, uint64_t real) {
        return given < 0 ? real : static_cast<uint64_t>(given);
      };
      const uint64_t listed_size = listed(r.listed_size, size);
      directory += "PK\1\2\0\0\0\0"s + le(r.flags, 2) + le(r.method, 2) + le(0, 8) +
                   le(listed(r.listed_compressed, listed_size), 4) + le(listed_size, 4) +
                   le(r.name.size(), 2) + le(r.extra.size(), 2) + le(r.entry_comment.size(), 2) +
                   le(0, 8) + le(listed(r.listed_offset, offset), 4) + r.name + r.extra +
                   r.entry_comment;
    }
    out += before_directory;
    const uint64_t begin =
        directory_offset < 0 ? out.size() : static_cast<uint64_t>(directory_offset);
    const uint64_t size =
        directory_size < 0 ? directory.size() : static_cast<uint64_t>(directory_size);
    const uint64_t number = count < 0 ? records.size() : static_cast<uint64_t>(count);
    return out + directory + before_end + "PK\5\6" + le(disk, 2) + le(disk, 2) + le(number, 2) +
           le(number, 2) + le(size, 4) + le(begin, 4) + le(comment.size(), 2) + comment + appended;
  }
};

inline const std::string kSixFloats = "\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@"s;

/// data.pkl and storage 0 with six float32.
inline Archive archive(const std::string& pickled, const std::string& data = kSixFloats) {
  return {{{"a/data.pkl", pickled}, {"a/data/0", data}}};
}

/// A file of torch.save around the object that `body` makes.
inline std::string zip_file(const std::string& body) { return archive(pickle(body)).bytes(); }

// --- The older format ----------------------------------------------------------------------------

inline std::string legacy_preface(const std::string& version = integer(1001),
                                  const std::string& facts = dict(text("little_endian") + "\x88")) {
  return pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"s) + pickle(version) +
         pickle(facts);
}

inline std::string legacy_file(const std::string& body, const std::string& keys = list(text("0")),
                               const std::string& storages = le(6, 8) + kSixFloats) {
  return legacy_preface() + pickle(body) + pickle(keys) + storages;
}

}  // namespace emulsion::test
