// emulsion verify: is a file or folder of weights whole and sound, and which one is it.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/error.h"
#include "model_arguments.h"
#include "text.h"
#include "verbs.h"
#include "weights/load_model.h"
#include "weights/verify.h"
#include "weights_kind.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string path;
  ModelArguments model;
};

/// Counts what is wrong while saying it.
class Findings {
 public:
  void good(const std::string& text) { std::printf("  ok     %s\n", text.c_str()); }
  void bad(const std::string& text) {
    ++wrong_;
    std::printf("  WRONG  %s\n", text.c_str());
  }
  int64_t wrong() const { return wrong_; }

 private:
  int64_t wrong_ = 0;
};

void check_hashes(const io::TensorFile& file, Findings& findings) {
  for (const fs::path& path : file.files()) {
    const weights::FileHashes hashes = weights::hashes_of(path);
    std::vector<std::vector<std::string>> rows = {{"sha256", hashes.sha256},
                                                  {"short hash (A1111, Civitai's AutoV2)", hashes.short_hash()},
                                                  {"old hash (A1111 before 2023)", hashes.old_hash}};
    if (!hashes.data_sha256.empty()) rows.push_back({"sha256 of the data (modelspec)", hashes.data_sha256});
    std::fputs(table(rows).c_str(), stdout);
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
  std::printf("%s: %s, %s\n", path.c_str(), kind_of(file).c_str(), summary(file).c_str());
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
      std::printf("  -      not looked at as a model: %s\n", error.what());
    } else {
      findings.bad(error.what());
    }
  }
  for (const std::string& part : report.lacking) findings.bad("no " + part);
  for (const auto& decision : report.decisions)
    std::printf("         %s, from %s\n", decision.what.c_str(), decision.from.c_str());
  if (!report.ignored.empty())
    std::printf("         %s that no model needs\n", counted(static_cast<int64_t>(report.ignored.size()), "tensors").c_str());
}

void verify(const Arguments& arguments) {
  const fs::path path = arguments.path;
  EMULSION_CHECK(fs::exists(path), not_found, "{}: no such file or folder", arguments.path);
  Findings findings;
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) files.push_back(path);
  else
    for (const auto& item : fs::recursive_directory_iterator(path))
      if (item.is_regular_file() && is_weights_file(item.path())) files.push_back(item.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) check_file(file, findings);
  check_whole(arguments, findings);
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
  add_model_arguments(*verb, a->model);
  verb->callback([a] { verify(*a); });
}

}  // namespace emulsion::app
