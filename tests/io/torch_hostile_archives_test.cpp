#include <fmt/format.h>

#include "io/torch_builder.h"
#include "io/torch_hostile_files.h"

namespace emulsion::test {
namespace {

void add_zip(std::vector<HostileFile>& files, const std::string& what, const Archive& archive,
             const std::vector<std::string>& said) {
  files.push_back({what, archive.bytes(), said});
}

// --- Archives
// ------------------------------------------------------------------------------------------

Archive good() { return archive(pickle(dict(text("w") + good_tensor()))); }

/// A good archive with something else about its first record.
template <class F>
Archive with(F&& change) {
  Archive made = good();
  change(made.records[0]);
  return made;
}

void add_records(std::vector<HostileFile>& files) {
  add_zip(files, "encrypted", with([](Record& r) { r.flags = 1; }), {"'a/data.pkl'", "encrypted"});
  add_zip(files, "encrypted only in front of the data", with([](Record& r) { r.local_flags = 1; }),
          {"flags 0x0", "got 0x1"});
  add_zip(files, "encrypted only in the directory",
          with([](Record& r) { r.flags = 1, r.local_flags = 0; }), {"encrypted"});
  add_zip(files, "a patch", with([](Record& r) { r.flags = 1 << 5; }), {"flags", "0x20"});
  add_zip(files, "strong encryption", with([](Record& r) { r.flags = 1 << 13; }),
          {"flags", "0x2000"});
  add_zip(files, "deflated", with([](Record& r) { r.method = 8; }), {"method 8", "zip -0"});
  add_zip(files, "deflated only in front of the data", with([](Record& r) { r.local_method = 8; }),
          {"method 0"});
  add_zip(files, "method 99", with([](Record& r) { r.method = 99; }), {"method 99"});
  add_zip(files, "a bomb of 4 GB",
          with([](Record& r) { r.listed_size = 0xfffffffe, r.listed_compressed = 10; }),
          {"compressed"});
  add_zip(files, "another name in front of the data",
          with([](Record& r) { r.local_name = "a/evil.pkl"; }), {"'a/data.pkl'", "'a/evil.pkl'"});
  add_zip(files, "another size in front of the data", with([](Record& r) { r.local_size = 3; }),
          {"as in the directory", "and 3;"});
  add_zip(files, "a size beyond the file",
          with([](Record& r) { r.listed_size = r.local_size = 1 << 30; }),
          {"before the directory"});
  add_zip(files, "an offset beyond the file", with([](Record& r) { r.listed_offset = 0x7fffffff; }),
          {"its header here"});
  add_zip(files, "an offset into the data", with([](Record& r) { r.listed_offset = 7; }),
          {"its header here"});
  add_zip(files, "records with 1 byte between",
          with([](Record& r) { r.gap = std::string(25, 'x'); }), {"other data between"});
  add_zip(files, "a comment on a record", with([](Record& r) { r.entry_comment = "x"; }),
          {"without a comment"});
  add_zip(files, "ZIP64 without its field", with([](Record& r) { r.listed_size = 0xffffffff; }),
          {"ZIP64 field"});
  add_zip(files, "ZIP64 with half its field", with([](Record& r) {
            r.listed_size = 0xffffffff, r.extra = le(1, 2) + le(4, 2) + "abcd";
          }),
          {"ZIP64 field"});
  add_zip(files, "ZIP64 with a field beyond its entry", with([](Record& r) {
            r.listed_size = 0xffffffff, r.extra = le(1, 2) + le(400, 2) + "abcd";
          }),
          {"ZIP64 field"});
  add_zip(files, "ZIP64 with a size of 2^60", with([](Record& r) {
            r.listed_size = 0xffffffff,
            r.extra = le(1, 2) + le(16, 2) + le(1ull << 60, 8) + le(1ull << 60, 8);
          }),
          {"before the directory"});
}

void add_names_of_records(std::vector<HostileFile>& files) {
  const auto renamed = [](const std::string& name) {
    return with([&](Record& r) { r.name = name; });
  };
  add_zip(files, "DATA.PKL", renamed("a/DATA.PKL"), {"'a/DATA.PKL'", "what torch.save writes"});
  add_zip(files, "no folder", renamed("data.pkl"), {"'data.pkl'"});
  add_zip(files, "a zero byte in the name", renamed("a/data.pkl\0.txt"s),
          {"what torch.save writes"});
  add_zip(files, "a backslash in the name", renamed("a\\data.pkl"), {"what torch.save writes"});
  add_zip(files, "a name without anything", renamed(""), {"what torch.save writes"});
  add_zip(files, "out of the folder", renamed("../data.pkl"), {"what torch.save writes"});
  add_zip(files, "an absolute name", renamed("/data.pkl"), {"what torch.save writes"});
  add_zip(files, "a folder in the folder", renamed("a/b/data.pkl"), {"what torch.save writes"});
  const auto added = [](Record record) {
    Archive made = good();
    made.records.push_back(std::move(record));
    return made;
  };
  add_zip(files, "a second folder", added({"b/data.pkl", pickle("N")}), {"'b/data.pkl'"});
  add_zip(files, "data.pkl twice", added({"a/data.pkl", pickle("N")}), {"'a/data.pkl'", "twice"});
  add_zip(files, "two names for one record",
          added({.name = "a/version", .data = "", .local_name = "a/data.pkl", .listed_offset = 0}),
          {"name of the directory"});
  add_zip(files, "a program beside the data", added({"a/run.py", "import os"}), {"'a/run.py'"});
  add_zip(files, "an archive within", added({"a/inner.zip", good().bytes()}), {"'a/inner.zip'"});
  add_zip(files, "TorchScript", added({"a/code/__torch__.py", "def f(): pass"}), {"TorchScript"});
  add_zip(files, "TorchScript's constants", added({"a/constants.pkl", pickle("N")}),
          {"TorchScript"});
  add_zip(files, "a storage that nothing mentions", added({"a/data/7", "abcd"}),
          {"'a/data/7'", "one more"});
  add_zip(files, "a byte order unheard of", added({"a/byteorder", "middle"}), {"'middle'"});
  Archive none = good();
  none.records[0].name = "a/version";
  add_zip(files, "no data.pkl", none, {"'a/data.pkl', got none"});
  Archive small = good();
  small.records[1].data.pop_back();
  add_zip(files, "a storage too short", small, {"expected 24 bytes", "got 23"});
}

void add_directories(std::vector<HostileFile>& files) {
  const auto whole = [&](const std::string& what, const std::vector<std::string>& said,
                         auto&& change) {
    Archive made = good();
    change(made);
    add_zip(files, what, made, said);
  };
  whole("a comment", {"without a comment"}, [](Archive& a) { a.comment = "hello"; });
  whole("an archive in the comment", {"expected"}, [](Archive& a) { a.comment = good().bytes(); });
  whole("bytes behind the archive", {"without a comment"}, [](Archive& a) { a.appended = "x"; });
  whole("an archive behind the archive", {"directory to end here"},
        [](Archive& a) { a.appended = good().bytes(); });
  whole("bytes before the directory", {"the directory", "other data between"},
        [](Archive& a) { a.before_directory = std::string(30, 'x'); });
  whole("bytes behind the directory", {"directory to end here"},
        [](Archive& a) { a.before_end = "x"; });
  whole("several disks", {"one of several"}, [](Archive& a) { a.disk = 1; });
  whole("a record too many", {"138 bytes for 3 records", "got one of 110"},
        [](Archive& a) { a.count = 3; });
  whole("a record too few", {"after 1 records"}, [](Archive& a) { a.count = 1; });
  whole("65534 records", {"65534"}, [](Archive& a) { a.count = 65534; });
  whole("no records", {"after 0 records"}, [](Archive& a) { a.count = 0; });
  whole("a directory elsewhere", {"directory to end here"},
        [](Archive& a) { a.directory_offset = 0; });
  whole("a directory of 4 GB", {"directory to end here"},
        [](Archive& a) { a.directory_size = 0xffffffff; });
  whole("a ZIP64 end elsewhere", {"ZIP64 end record"},
        [](Archive& a) { a.before_end = "PK\6\7"s + le(0, 4) + le(5, 8) + le(1, 4); });
  whole("a ZIP64 end at 2^64", {"ZIP64 end record"},
        [](Archive& a) { a.before_end = "PK\6\7"s + le(0, 4) + le(~0ull, 8) + le(1, 4); });
  Archive made = good();
  const uint64_t end = made.bytes().size() - 22;
  made.before_end = "PK\6\6"s + le(44, 8) + le(0, 12) + le(1ull << 60, 8) + le(1ull << 60, 8) +
                    le(1, 8) + le(end - 1, 8) + "PK\6\7"s + le(0, 4) + le(end, 8) + le(1, 4);
  add_zip(files, "2^60 records by ZIP64", made, {"1152921504606846976"});
  files.push_back({"a header of a record and no more", "PK\3\4", {"end of a ZIP archive"}});
  const std::string bytes = good().bytes();
  files.push_back({"half an archive", bytes.substr(0, bytes.size() / 2), {"cut off"}});
}

void add_older_format(std::vector<HostileFile>& files) {
  const auto object = [](const std::string& value) { return dict(text("w") + value); };
  const std::string w = object(good_tensor("N"));
  files.push_back(
      {"only the magic number", legacy_preface().substr(0, 15), {"the opcode STOP", "cut off"}});
  files.push_back(
      {"version 1000", legacy_preface(integer(1000)) + pickle(w), {"version 1001", "got 1000"}});
  files.push_back({"a call among the facts",
                   legacy_preface(integer(1001), call(global("os", "system"), text("id"))),
                   {"'os.system'"}});
  files.push_back({"a call among the keys",
                   legacy_file(w, call(global("os", "system"), text("id"))),
                   {"'os.system'"}});
  files.push_back({"keys that are a dict", legacy_file(w, "}"), {"list of the keys"}});
  files.push_back({"no keys", legacy_file(w, "]"), {"keys of 1 storages", "0"}});
  files.push_back({"an unknown key", legacy_file(w, list(text("1"))), {"key of a storage", "'1'"}});
  files.push_back({"a key twice", legacy_file(w, list(text("0") + text("0"))), {"once", "'0'"}});
  files.push_back({"keys that are tuples", legacy_file(w, list(")")), {"key of a storage"}});
  files.push_back({"another number of elements",
                   legacy_file(w, list(text("0")), le(5, 8) + kSixFloats),
                   {"expected 6 elements", "got 5"}});
  files.push_back({"2^64 elements",
                   legacy_file(w, list(text("0")), le(~0ull, 8) + kSixFloats),
                   {"expected 6 elements"}});
  files.push_back(
      {"half a storage", legacy_file(w, list(text("0")), le(6, 8) + "abcd"), {"cut off"}});
  files.push_back({"no storage", legacy_file(w, list(text("0")), ""), {"cut off"}});
  files.push_back(
      {"bytes behind the storages", legacy_file(w) + "x", {"end of the file", "1 more"}});
  files.push_back(
      {"a pickle behind the storages", legacy_file(w) + pickle("N"), {"end of the file"}});
  files.push_back({"a part that overflows",
                   legacy_file(object(tensor(
                       storage(6, "0", tuple(text("v") + integer(INT64_MAX) + integer(INT64_MAX))),
                       0, {1}, {1}))),
                   {"part of its 6 elements"}});
}

}  // namespace

void add_hostile_archives(std::vector<HostileFile>& files) {
  add_records(files);
  add_names_of_records(files);
  add_directories(files);
  add_older_format(files);
}

}  // namespace emulsion::test
