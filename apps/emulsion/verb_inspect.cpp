// emulsion inspect: what a file is, and what is in it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/image.h"
#include "io/tensor_file.h"
#include "nn/pattern.h"
#include "text.h"
#include "verbs.h"
#include "weights/catalogue.h"
#include "weights/single_file.h"
#include "weights_kind.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;
constexpr size_t kRowsShown = 40;

struct Arguments {
  std::string path;
  std::vector<std::string> keys;
};

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return nn::glob_match(pattern, name); });
}

/// What a model's file was taken for, and from which tensors.
void show_decisions(const std::string& path) {
  weights::LoadReport report;
  try {
    weights::detect_single_file(path, {.report = &report});
  } catch (const Error&) {  // no model: its kind was said
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& decision : report.decisions) rows.push_back({decision.what, decision.from});
  std::printf("\nTaken for:\n%s", table(rows).c_str());
}

void show_weights(const Arguments& arguments) {
  const auto file = io::open_tensor_file(arguments.path);
  std::printf("%s\n%s, %s\n", kind_of(file).c_str(), summary(file).c_str(), file.format().c_str());
  show_decisions(arguments.path);
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : file.metadata()) rows.push_back({key, shortened(value, 100)});
  if (!rows.empty()) std::printf("\nMetadata:\n%s", table(rows).c_str());
  rows.clear();
  auto entries = file.entries();
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  size_t matching = 0;
  for (const auto& entry : entries) {
    if (!arguments.keys.empty() && !matches_any(arguments.keys, entry.name)) continue;
    if (++matching > kRowsShown && arguments.keys.empty()) continue;
    rows.push_back({entry.name, c10::toString(entry.dtype),
                    fmt::format("[{}]", fmt::join(entry.shape, ", "))});
  }
  EMULSION_CHECK(matching > 0 || arguments.keys.empty(), not_found, "{}: no tensor matches {}",
                 arguments.path, fmt::join(arguments.keys, " "));
  std::printf("\nTensors:\n%s", table(rows).c_str());
  if (matching > rows.size())
    std::printf("  ... and %zu more; --keys '*' shows all\n", matching - rows.size());
}

void show_picture(const std::string& path) {
  const io::ImageInfo info = io::probe_image(path);
  std::printf("picture: %s, %ld x %ld pixels, %d channels%s\n", info.format.c_str(),
              static_cast<long>(info.width), static_cast<long>(info.height), info.bands,
              info.has_alpha ? " with transparency" : "");
  if (info.format != "png") return;
  for (const auto& [keyword, text] : io::read_png_text(path))
    std::printf("\n%s:\n%s\n", keyword.c_str(), text.c_str());
}

/// A line per part of a model folder, or of any folder with files of weights.
void show_folder(const std::string& path) {
  const bool is_model = fs::exists(fs::path(path) / "model_index.json");
  std::printf("%s\n\n", is_model ? "model folder, diffusers layout" : "folder");
  std::vector<std::vector<std::string>> rows;
  for (const auto& item : fs::recursive_directory_iterator(path)) {
    const std::string name = fs::relative(item.path(), path).string();
    const auto extension = item.path().extension();
    if (extension == ".safetensors" || extension == ".bin") {
      const auto file = io::open_tensor_file(item.path());
      rows.push_back({name, kind_of(file) + ": " + summary(file)});
    } else if (is_model && extension == ".json" && item.file_size() < 4096) {
      std::string text = io::read_file(item.path());
      text.erase(std::remove(text.begin(), text.end(), '\n'), text.end());
      while (text.find("  ") != text.npos) text.replace(text.find("  "), 2, " ");
      rows.push_back({name, shortened(text, 160)});
    }
  }
  EMULSION_CHECK(!rows.empty(), not_found,
                 "{}: expected a model folder or files of weights, found neither; "
                 "`emulsion data check` looks at folders of pictures",
                 path);
  std::sort(rows.begin(), rows.end());
  std::fputs(table(rows).c_str(), stdout);
}

void inspect(const Arguments& arguments) {
  const fs::path path = arguments.path;
  if (fs::is_directory(path)) return show_folder(arguments.path);
  if (io::is_image_path(path)) return show_picture(arguments.path);
  std::string first_line;
  std::getline(std::ifstream(path), first_line);
  if (first_line.starts_with("emulsion cache")) {
    std::printf("cache of encoded pictures or texts (%s), %s\n", first_line.c_str(),
                human_bytes(static_cast<int64_t>(fs::file_size(path))).c_str());
    return;
  }
  show_weights(arguments);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(
      app, "inspect",
      "Says what a file of weights, model folder or picture is, with tensors and metadata.",
      "emulsion inspect style.safetensors --keys '*attn1*'");
  verb->add_option("path", arguments->path, "File or folder")
      ->required()
      ->option_text("FILE|FOLDER");
  verb->add_option("--keys", arguments->keys, "Only tensors whose names match; may be repeated")
      ->option_text("PATTERN")
      ->allow_extra_args(false);
  verb->callback([arguments] {
    arguments->path = weights::located(arguments->path).string();
    inspect(*arguments);
  });
}

}  // namespace emulsion::app
