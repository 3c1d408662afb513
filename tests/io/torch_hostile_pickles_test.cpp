#include <fmt/format.h>

#include "io/torch_builder.h"
#include "io/torch_hostile_files.h"

namespace emulsion::test {
namespace {

using Files = std::vector<HostileFile>;

std::string repeat(const std::string& part, size_t count) {
  std::string all;
  all.reserve(part.size() * count);
  for (size_t i = 0; i < count; ++i) all += part;
  return all;
}

/// The attack `body` beside a good tensor, in both formats.
void add_both(Files& files, const std::string& what, const std::string& body,
              const std::vector<std::string>& said) {
  const auto around = [&](const std::string& last) {
    return dict(text("good") + good_tensor(last) + text("bad") + body);
  };
  files.push_back({what + " (zip)", zip_file(around("")), said});
  files.push_back({what + " (legacy)", legacy_file(around("N")), said});
}

// --- Names
// -----------------------------------------------------------------------------------------

/// What has been used to run programs from pickles, scanners' blind spots among it, and classes
/// with code.
constexpr std::pair<const char*, const char*> kForbidden[] = {
    {"os", "system"},
    {"posix", "system"},
    {"nt", "system"},
    {"os", "popen"},
    {"subprocess", "Popen"},
    {"subprocess", "check_output"},
    {"builtins", "eval"},
    {"builtins", "exec"},
    {"builtins", "compile"},
    {"builtins", "__import__"},
    {"builtins", "getattr"},
    {"builtins", "open"},
    {"__builtin__", "eval"},
    {"__builtin__", "apply"},
    {"__builtin__", "file"},
    {"importlib", "import_module"},
    {"runpy", "run_path"},
    {"runpy", "_run_code"},
    {"code", "InteractiveInterpreter"},
    {"pty", "spawn"},
    {"socket", "create_connection"},
    {"webbrowser", "open"},
    {"shutil", "rmtree"},
    {"ctypes", "CDLL"},
    {"pip", "main"},
    {"pip._internal.cli.main", "main"},
    {"pickle", "loads"},
    {"_pickle", "loads"},
    {"dill", "loads"},
    {"joblib", "load"},
    {"marshal", "loads"},
    {"types", "CodeType"},
    {"types", "FunctionType"},
    {"operator", "attrgetter"},
    {"operator", "methodcaller"},
    {"functools", "partial"},
    {"timeit", "timeit"},
    {"cProfile", "runctx"},
    {"pydoc", "pipepager"},
    {"bdb", "Bdb"},
    {"doctest", "debug_script"},
    {"asyncio.unix_events", "_UnixSubprocessTransport"},
    {"multiprocessing.util", "spawnv_passfds"},
    {"distutils.file_util", "write_file"},
    {"numpy", "load"},
    {"numpy.testing._private.utils", "runstring"},
    {"torch", "load"},
    {"torch.serialization", "load"},
    {"torch.storage", "_load_from_bytes"},
    {"torch.hub", "load"},
    {"torch.jit", "load"},
    {"torch.utils._config_module", "ConfigModule"},
    {"torch.fx.experimental.symbolic_shapes", "ShapeEnv"},
    {"torch.nn.modules.linear", "Linear"},
    {"torch._utils", "_rebuild_qtensor"},
    {"torch._utils", "_rebuild_sparse_tensor"},
    {"torch._tensor", "_rebuild_from_type_v2"},
    {"copyreg", "_reconstructor"},
    {"copy_reg", "__newobj__"},
    {"builtins", "object"},
    {"builtins", "type"},
    {"collections", "namedtuple"},
    {"collections.abc", "OrderedDict"},
    {"Collections", "OrderedDict"},
    {"collections ", "OrderedDict"},
    {"collections", "OrderedDict\r"},
    {"collections", "OrderedDict.__init__"},
    {"", "os"},
    {"os", ""},
    {"torch", "FloatStorage.__module__"},
    {"c\xd0\xbellections", "OrderedDict"},
    {"pytorch_lightning.callbacks", "Callback"},
    {"omegaconf.resolvers", "oc"},
};

void add_names(Files& files) {
  for (const auto& [module, name] : kForbidden) {
    add_both(files, fmt::format("{}.{} called", module, name),
             call(global(module, name), text("id")), {"GLOBAL", "byte ", "not on the list"});
  }
  add_both(files, "a name alone, never called", global("os", "system"), {"'os.system'"});
  add_both(files, "STACK_GLOBAL", text("os") + text("system") + "\x93" + tuple(text("id")) + "R",
           {"'os.system'", "STACK_GLOBAL"});
  add_both(files, "STACK_GLOBAL by way of the memo",
           text("system") + "q\1" + "0" + text("posix") + "h\1\x93)R", {"'posix.system'"});
  add_both(files, "STACK_GLOBAL of a list", "]" + text("system") + "\x93",
           {"STACK_GLOBAL", "a list"});
  add_both(files, "STACK_GLOBAL of bytes", "U\2osU\6system\x93", {"STACK_GLOBAL", "bytes"});
  add_both(files, "a name within a skipped object",
           call(global("numpy", "dtype"), call(global("os", "system"), text("id"))),
           {"'os.system'"});
  add_both(files, "a name that is thrown away", global("os", "system") + "0N", {"'os.system'"});
  add_both(files, "a name of 300 bytes", global(std::string(300, 'a'), "b"),
           {"name of less than 256"});
}

// --- Opcodes
// -----------------------------------------------------------------------------------------

void add_opcodes(Files& files) {
  const std::pair<const char*, std::string> refused[] = {
      {"INST", "(" + text("id") + "ios\nsystem\n"},
      {"OBJ", "(" + global("torch", "Size") + "o"},
      {"EXT1", "\x82\1"},
      {"EXT2", "\x83\1\2"},
      {"EXT4", "\x84\1\2\3\4"},
      {"NEWOBJ_EX", ")}\x92"},
      {"PERSID", "P0\n"},
      {"DUP", "N2"},
      {"INT", "I1\n"},
      {"LONG", "L1L\n"},
      {"FLOAT", "F1\n"},
      {"STRING", "S'a'\n"},
      {"UNICODE", "Va\n"},
      {"LIST", "(l"},
      {"DICT", "(d"},
      {"PUT", "Np0\n"},
      {"GET", "g0\n"},
      {"BYTEARRAY8", "\x96"s + le(1, 8) + "a"},
      {"NEXT_BUFFER", "\x97"},
      {"READONLY_BUFFER", "\x98"}};
  for (const auto& [name, body] : refused) {
    add_both(files, name, body, {"opcode "s + name, "is not read", "byte "});
  }
  add_both(files, "an unknown opcode", "\xff", {"0xff"});
  add_both(files, "protocol 6 within", "\x80\x06N", {"protocol 6 within"});
  files.push_back({"protocol 0", archive("(dp0\n.").bytes(), {"opcode DICT"}});
  files.push_back({"protocol 9", archive("\x80\x09N.").bytes(), {"protocol 9"}});
  add_both(files, "a call of a text", text("system") + ")R",
           {"a name to call", "REDUCE", "a text"});
  add_both(files, "a call without a tuple", global("torch", "Size") + "]R",
           {"tuple of arguments", "a list"});
  add_both(files, "a call of a storage's class", global("torch", "FloatStorage") + ")R",
           {"torch.FloatStorage"});
  add_both(files, "a call of a dtype", global("torch", "float32") + ")R", {"torch.float32"});
  add_both(files, "a call of torch.Size without numbers", global("torch", "Size") + ")R",
           {"torch.Size"});
  add_both(files, "an object of a function", global("torch._utils", "_rebuild_tensor_v2") + ")\x81",
           {"NEWOBJ"});
  add_both(files, "an object of a text", text("a") + ")\x81", {"NEWOBJ", "a text"});
  add_both(files, "the state of a tensor", good_tensor("") + dict(text("x") + "N") + "b",
           {"BUILD"});
  add_both(files, "the state of a list", "]}b", {"BUILD", "a list"});
  add_both(files, "a persistent id that is a text", text("0") + "Q", {"BINPERSID", "a text"});
  add_both(files, "a persistent id that is a number", "K\1Q", {"BINPERSID", "an integer"});
  add_both(files, "a persistent id of another kind", tuple(text("exec") + text("id")) + "Q",
           {"'exec'"});
  add_both(files, "a persistent id without anything", ")Q", {"BINPERSID"});
  add_both(files, "a module with its source",
           tuple(text("module") + global("torch.nn.modules.linear", "Linear") + text("a.py") +
                 text("import os")) +
               "Q",
           {"Linear"});
  add_both(files, "a module that is a text",
           tuple(text("module") + text("os") + text("a.py") + text("x")) + "Q", {"'module'"});
  add_both(files, "a tuple of a value too many", "\x87\x87\x87\x87", {"on the stack", "TUPLE3"});
  add_both(files, "SETITEMS without MARK", "}u", {"expected"});
  add_both(files, "SETITEM on a tuple", ")NNs", {"SETITEM", "a tuple"});
  add_both(files, "SETITEMS with an odd number", "}(" + text("a") + "u",
           {"pairs of key and value"});
  add_both(files, "APPEND to a dict", "}Na", {"APPEND", "a dict"});
  add_both(files, "ADDITEMS to a list", "](N\x90", {"ADDITEMS", "a list"});
  add_both(files, "dict of what are no pairs",
           call(global("collections", "OrderedDict"), list(text("a"))), {"pairs of key and value"});
  files.push_back({"STOP on an empty stack", archive("\x80\x02.").bytes(), {"STOP", "got none"}});
  files.push_back(
      {"STOP before the end", archive("\x80\x02NN.").bytes(), {"one value at the end"}});
  files.push_back({"STOP within a MARK", archive("\x80\x02N((0.").bytes(), {"STOP"}});
  files.push_back({"no STOP", archive("\x80\x02}").bytes(), {"the opcode STOP", "cut off"}});
  files.push_back({"a second pickle behind the first",
                   archive(pickle(dict(text("a") + good_tensor())) +
                           pickle(call(global("os", "system"), text("id"))))
                       .bytes(),
                   {"after the opcode STOP"}});
}

// --- Sizes
// -------------------------------------------------------------------------------------------

void add_sizes(Files& files) {
  add_both(files, "a text of 2^63 bytes", "\x8d"s + le(1ull << 63, 8) + "a",
           {"BINUNICODE8", "9223372036854775808 bytes"});
  add_both(files, "a text of 4 GB", "X"s + le(0xffffffff, 4) + "a",
           {"BINUNICODE", "4294967295 bytes"});
  add_both(files, "bytes of 2^64", "\x8e"s + le(~0ull, 8) + "a", {"BINBYTES8"});
  add_both(files, "an integer of 2 GB", "\x8b"s + le(0x7fffffff, 4) + "a", {"LONG4"});
  add_both(files, "a frame of 2^60", "\x95"s + le(1ull << 60, 8), {"FRAME"});
  add_both(files, "a text that is not UTF-8", text("a\xff"), {"UTF-8", "0xff"});
  add_both(files, "half a character", text("\xed\xa0\x80"s.substr(0, 2)), {"UTF-8"});
  add_both(files, "place 2^32-1 of the memo", "Nr"s + le(0xffffffff, 4), {"memo", "4294967295"});
  add_both(files, "an empty place of the memo", "h\x77", {"place 119 of the memo"});
  add_both(files, "an empty place far away", "j"s + le(0xfffffff0, 4), {"of the memo"});
  add_both(files, "a million MARKs", repeat("(", 1'000'000), {"MARKs within each other"});
  add_both(files, "two million values on the stack", repeat("N", 2'000'000), {"stack of at most"});
  add_both(files, "a value twice two million times",
           "(N" + repeat("q\1", 1) + repeat("h\1", 2'000'000), {"stack of at most"});
  add_both(files, "three million values", repeat("N0", 2'500'000), {"at most 2000000 values"});
  add_both(files, "five million opcodes", "]" + repeat("q\1", 5'000'000),
           {"at most 4000000 opcodes"});
  add_both(files, "a million tuples within each other", ")" + repeat("\x85", 1'000'000),
           {"nested"});
  add_both(files, "lists within each other",
           "]" + repeat("q\1"
                        "0]h\1a",
                        100),
           {"nested"});
  add_both(files, "a list that holds itself", "]q\1h\1a", {"nested"});
  add_both(files, "a dict that holds itself", "}q\1" + text("a") + "h\1s", {"nested"});
  std::string laughs = dict(text("a") + "N" + text("b") + "N");
  for (int i = 0; i < 40; ++i)
    laughs +=
        "q\1"
        "0}(" +
        text("a") + "h\1" + text("b") + "h\1u";
  add_both(files, "a billion names from forty dicts", laughs, {"at most 500000 values"});
  std::string lists = list("N" + repeat("K\1", 900));
  for (int i = 0; i < 5; ++i)
    lists +=
        "q\1"
        "0](" +
        repeat("h\1", 900) + "e";
  add_both(files, "a billion numbers from five lists", lists, {"at most 500000 values"});
  const std::string key = text(std::string(60'000, 'k')) + "q\1" + "0";
  add_both(files, "gigabytes of names", key + repeat("}h\1", 60) + "N" + repeat("s", 60),
           {"bytes of names"});
  add_both(files, "a list copied into dicts again and again",
           list(repeat(tuple("NN"), 1000)) + "q\1" + "0](" +
               repeat(global("collections", "OrderedDict") + "h\1\x85R", 3000) + "e",
           {"at most 4000000 opcodes"});
  add_both(files, "a long text many times in a list",
           text(std::string(1 << 20, 'a')) + "q\1" + "0](" +
               repeat("](" + repeat("h\1", 1000) + "e", 200) +
               repeat("](" + repeat("h\1", 3) + "}e", 40) + "e",
           {"bytes of names"});
  files.push_back({"a pickle of 65 MB",
                   archive(std::string(65 << 20, 'N')).bytes(),
                   {"at most 67108864 bytes"}});
  files.push_back({"a text beyond 64 MB (legacy)",
                   legacy_preface() + "\x80\x02X" + le(65 << 20, 4) + std::string(66 << 20, 'a'),
                   {"67108864 bytes that a pickle may have"}});
}

}  // namespace

void add_hostile_pickles(std::vector<HostileFile>& files) {
  add_names(files);
  add_opcodes(files);
  add_sizes(files);
}

}  // namespace emulsion::test
