// emulsion verify: is a file or folder of weights whole and sound, and which one is it.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/error.h"
#include "io/jsonl.h"
#include "model_arguments.h"
#include "text.h"
#include "verbs.h"
#include "weights/catalogue.h"
#include "weights/load_model.h"
#include "weights/verify.h"
#include "weights_kind.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string path;
  bool json = false;
  ModelArguments model;
};

/// Says what was found, to people or to programs, and counts what is wrong.
class Findings {
 public:
  explicit Findings(bool json) : json_(json) {}

  void good(const std::string& text) { say("ok", "ok", text); }
  void bad(const std::string& text) {
    ++wrong_;
    say("wrong", "WRONG", text);
  }
  void aside(const std::string& text) { say("note", "-", text); }
  /// A line for people or an event for programs.
  void tell(const std::string& text, const io::JsonFields& event) const {
    std::printf("%s\n", json_ ? io::json_line(event).c_str() : text.c_str());
  }
  int64_t wrong() const { return wrong_; }
  bool json() const { return json_; }

 private:
  void say(const char* verdict, const char* shown, const std::string& text) const {
    tell(fmt::format("  {:6} {}", shown, text), {{"event", "finding"}, {"verdict", verdict}, {"text", text}});
  }

  bool json_;
  int64_t wrong_ = 0;
};

void show_hashes(const fs::path& path, const weights::FileHashes& hashes, const Findings& findings) {
  std::vector<std::vector<std::string>> rows = {{"sha256", hashes.sha256},
                                                {"short hash (A1111, Civitai's AutoV2)", hashes.short_hash()},
                                                {"old hash (A1111 before 2023)", hashes.old_hash}};
  io::JsonFields event = {{"event", "hashes"},
                          {"path", path.string()},
                          {"sha256", hashes.sha256},
                          {"short_hash", hashes.short_hash()},
                          {"old_hash", hashes.old_hash}};
  if (!hashes.data_sha256.empty()) {
    rows.push_back({"sha256 of the data (modelspec)", hashes.data_sha256});
    event.emplace_back("data_sha256", hashes.data_sha256);
  }
  std::string text = table(rows);
  text.pop_back();  // its last line end
  findings.tell(text, event);
}

void check_hashes(const io::TensorFile& file, Findings& findings) {
  for (const fs::path& path : file.files()) {
    const weights::FileHashes hashes = weights::hashes_of(path);
    show_hashes(path, hashes, findings);
    const auto said = file.metadata().find("modelspec.hash_sha256");
    if (said == file.metadata().end() || file.files().size() > 1) continue;
    if (said->second == "0x" + hashes.data_sha256 || said->second == hashes.data_sha256) {
      findings.good("the data has the hash that its header says");
    } else {
      findings.bad(fmt::format("the header says the data has the SHA-256 {}, it has 0x{}", said->second, hashes.data_sha256));
    }
  }
}

/// Hashes and numbers of one file, or set of shards.
void check_file(const fs::path& path, Findings& findings) {
  const io::TensorFile file = io::open_tensor_file(path);
  findings.tell(fmt::format("{}: {}, {}", path.string(), kind_of(file), summary(file)),
                {{"event", "file"},
                 {"path", path.string()},
                 {"kind", kind_of(file)},
                 {"format", file.format()},
                 {"tensors", static_cast<int64_t>(file.entries().size())}});
  check_hashes(file, findings);
  const auto found = weights::not_finite(file);
  for (const auto& tensor : found) {
    findings.bad(fmt::format("'{}': {} NaN and {} infinite among {}", tensor.name, human_count(tensor.nans),
                             human_count(tensor.infinities), counted(tensor.numbers, "numbers")));
  }
  if (found.empty()) findings.good("all numbers are finite");
}

bool is_weights_file(const fs::path& path) {
  const std::string name = path.filename().string();
  const bool shard = name.find("-of-") != name.npos;  // looked at through the index
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  return !shard && (ends(".safetensors") || ends(".bin") || ends(".index.json"));
}

void check_whole(const Arguments& arguments, Findings& findings) {
  weights::LoadReport report;
  weights::LoadOptions options = load_options(arguments.model, at::ScalarType::Undefined);
  options.report = &report;
  try {
    const models::Model model = weights::load_model(arguments.path, options);
    int64_t numbers = 0;
    for (const nn::Component& part : model.components()) numbers += part.store->numel();
    findings.good(fmt::format("all tensors are there, in the right shapes: {} numbers", human_count(numbers)));
  } catch (const Error& error) {
    const bool alone = error.code() == ErrorCode::not_found && !fs::is_directory(arguments.path);
    if (error.code() == ErrorCode::unsupported || alone) {  // a LoRA, an embedding, somebody's tensors
      findings.aside(fmt::format("not looked at as a model: {}", error.what()));
    } else {
      findings.bad(error.what());
    }
  }
  for (const std::string& part : report.lacking) findings.bad("no " + part);
  for (const auto& decision : report.decisions) {
    findings.tell(fmt::format("         {}, from {}", decision.what, decision.from),
                  {{"event", "decision"}, {"what", decision.what}, {"from", decision.from}});
  }
  const auto ignored = static_cast<int64_t>(report.ignored.size());
  if (ignored > 0) findings.aside(fmt::format("{} that no model needs", counted(ignored, "tensors")));
}

void verify(const Arguments& arguments) {
  const fs::path path = arguments.path;
  Findings findings(arguments.json);
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) files.push_back(path);
  else
    for (const auto& item : fs::recursive_directory_iterator(path))
      if (item.is_regular_file() && is_weights_file(item.path())) files.push_back(item.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) check_file(file, findings);
  check_whole(arguments, findings);
  if (findings.json()) findings.tell("", {{"event", "result"}, {"path", arguments.path}, {"wrong", findings.wrong()}});
  EMULSION_CHECK(findings.wrong() == 0, format, "{}: {} wrong, named above", arguments.path,
                 counted(findings.wrong(), "things"));
}

}  // namespace

void add_verify(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "verify",
                            "Looks at every number of a model: finite, complete, in the right shapes. Says its hashes.",
                            "emulsion verify v1-5-pruned-emaonly.safetensors");
  verb->add_option("path", a->path, "Model folder, single file, or any file of weights")
      ->required()
      ->option_text("FILE|FOLDER");
  add_json(*verb, a->json);
  add_model_arguments(*verb, a->model);
  verb->callback([a] {
    a->path = weights::located(a->path).string();
    verify(*a);
  });
}

}  // namespace emulsion::app
