// Run files of every method, so small that a run takes a second or two.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "io/atomic_file.h"
#include "run/program.h"
#include "support/support.h"
#include "train/tiny_runs.h"

namespace emulsion::test {

struct TinyMethod {
  const char* name;
  const char* base;    // the method whose model it starts from; "": none
  const char* tables;  // [method], without an end of line
  const char* top = "";
};
inline constexpr TinyMethod kTinyMethods[] = {
    {"autoencoder", "", "type = \"autoencoder\""},
    {"diffusion", "autoencoder", "type = \"diffusion\""},
    {"lora", "diffusion",
     "type = \"lora\"\nrank = 2\nalpha = 2\ntargets = [\"unet.*.attn*.to_*\", \"text_encoder.*.fc1\"]"},
    {"pivotal", "diffusion",
     "type = \"lora\"\nrank = 2\ndropout = 0.2\nmodule_dropout = 0.2\n[[method.words]]\ntoken = \"zork\"\nvectors = 2"},
    {"lokr", "diffusion", "type = \"lora\"\nalgo = \"lokr\"\nrank = 2\ndora = true"},
    {"textual_inversion", "diffusion", "type = \"textual_inversion\"\ntoken = \"zork\"\nvectors = 2"},
    {"hypernetwork", "diffusion", "type = \"hypernetwork\"\nwidths = [16]\ndropout = [0, 0.2, 0.2]"},
    {"fused", "autoencoder", "type = \"diffusion\"", "fused_backward_pass = true\nclip_by = \"tensor_norm\"\n"},
};

/// A folder with pictures, run files, and a finished autoencoder and diffusion model to build on.
class TinyRuns {
 public:
  TinyRuns() { write_pictures(folder_ / "pictures", 5); }

  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

  /// Writes the run file of `method`, the name of a row of kTinyMethods; `output` is a folder in this one. The models that it
  /// starts from are trained first, once.
  std::filesystem::path run_file(const std::string& method, const std::string& output, const std::string& top = "",
                                 const std::string& tables = "") {
    const TinyMethod& row = *std::ranges::find(kTinyMethods, method, &TinyMethod::name);
    const std::string base = row.base;
    if (!base.empty()) train_base(base);
    const auto file = folder_ / (output + "-" + method + ".toml");
    std::ofstream(file) << "name = \"" << method << "\"\noutput = \"" << (folder_ / output).string() << "\"\n"
                        << top << row.top << kTop << "[method]\n" << row.tables << "\n" << model_table(base) << tables << kTables << "[[data.sources]]\npath = \""
                        << (folder_ / "pictures").string() << "\"\ntrigger = \"zork\"\n";
    return file;
  }

  /// The folder of a run that `run_file` described.
  std::filesystem::path run_folder(const std::string& method, const std::string& output) const {
    return folder_ / output / method;
  }

 private:
  static constexpr const char* kTop = "seed = 3\nbatch_size = 2\nthreads = 1\n";
  static constexpr const char* kTables = R"(
[ema]
enabled = true
decay = 0.9
[preview]
every = 0
[model.architecture]
resolution = 16
vae_channels = [4, 8]
vae_groups = 2
unet_channels = [8, 16]
unet_groups = 4
unet_head_width = 8
unet_first_attention_level = 0
text_width = 16
text_layers = 1
text_heads = 2
text_merges = 100
[optimizer]
lr = 2e-3
[data]
resolution = 16
buckets = false
)";

  std::string model_table(const std::string& base) const {
    if (base.empty()) return "";
    return fmt::format("[model]\n{} = \"{}\"\n", base == "autoencoder" ? "vae" : "path", base_model(base));
  }
  std::string base_model(const std::string& method) const { return (folder_ / "base" / method / "model").string(); }

  void train_base(const std::string& method) {
    if (std::filesystem::exists(base_model(method))) return;
    const Ended ended = run_program({"train", run_file(method, "base", "steps = 3\n").string()});
    ASSERT_EQ(ended.code, 0) << ended.out;
  }

  TempFolder folder_;
};

/// The paths below `folder` of the files that a run must always give alike: result, newest state, metrics.
inline std::vector<std::filesystem::path> lasting_files(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files = {"metrics.jsonl"};
  std::string newest;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("step-")) newest = std::max(newest, name);
  }
  files.push_back(fs::path("checkpoints") / newest);
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path relative = fs::relative(entry.path(), folder);
    const bool result = relative.string().starts_with("model/") || relative.extension() == ".safetensors" ||
                        relative.extension() == ".pt";
    if (entry.is_regular_file() && result && relative.parent_path() != "checkpoints" &&
        *relative.begin() != "cache") {
      files.push_back(relative);
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Compares them byte by byte.
inline void expect_same_run(const std::filesystem::path& actual, const std::filesystem::path& expected) {
  const auto files = lasting_files(expected);
  EXPECT_EQ(lasting_files(actual), files);
  EXPECT_GE(files.size(), 3u);
  for (const auto& file : files) EXPECT_TRUE(bytes_of(actual / file) == bytes_of(expected / file)) << actual / file;
}

inline int64_t lines_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  int64_t count = 0;
  for (std::string line; std::getline(in, line);) ++count;
  return count;
}

}  // namespace emulsion::test
