#include "weights/catalogue.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "config/suggest.h"
#include "core/error.h"
#include "io/atomic_file.h"
#include "io/tensor_file.h"
#include "models/family.h"
#include "weights/single_file.h"

namespace emulsion::weights {
namespace {

namespace fs = std::filesystem;

constexpr int kLevelsAbove = 5;  // from a program in build/release/apps/emulsion up to the checkout

bool is_model_file(const fs::path& path) {
  const auto ending = path.extension();
  return fs::is_regular_file(path) && (ending == ".safetensors" || ending == ".ckpt" || ending == ".pt");
}

bool is_model_folder(const fs::path& path) { return fs::exists(path / "model_index.json"); }

/// `models` or `share/emulsion/models` beside the program or above it; empty if there is none.
fs::path shipped_folder() {
  std::error_code failed;
  fs::path folder = fs::read_symlink("/proc/self/exe", failed).parent_path();
  for (int i = 0; i < kLevelsAbove && !failed && folder.has_relative_path(); ++i, folder = folder.parent_path()) {
    for (const char* name : {"models", "share/emulsion/models"}) {
      if (fs::is_directory(folder / name)) return folder / name;
    }
  }
  return {};
}

fs::path users_folder() {
  const char* data = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  if (data != nullptr && *data != 0) return fs::path(data) / "emulsion" / "models";
  return home == nullptr ? fs::path() : fs::path(home) / ".local" / "share" / "emulsion" / "models";
}

std::string family_name(const models::UNetConfig& unet) {
  for (const models::Family& family : models::families()) {
    const models::UNetConfig& known = family.unet;
    if (unet.block_out_channels == known.block_out_channels && unet.cross_attention_dim == known.cross_attention_dim &&
        unet.in_channels == known.in_channels) {
      return family.name;
    }
  }
  return "own sizes";
}

/// What `license:` in the first lines of a model card says (YAML between two lines of ---).
std::string licence_of_card(const fs::path& card) {
  std::ifstream in(card);
  std::string line;
  if (!std::getline(in, line) || !line.starts_with("---")) return {};
  constexpr std::string_view kKey = "license:";
  while (std::getline(in, line) && !line.starts_with("---")) {
    if (!line.starts_with(kKey)) continue;
    const size_t begin = line.find_first_not_of(" \"'", kKey.size());
    return begin == line.npos ? "" : line.substr(begin, line.find_last_not_of(" \"'\r") - begin + 1);
  }
  return {};
}

ListedModel listed_folder(const fs::path& path) {
  ListedModel model = {path.filename().string(), path, "no U-Net", 0, licence_of_card(path / "README.md")};
  for (const auto& item : fs::recursive_directory_iterator(path)) {
    if (item.is_regular_file()) model.bytes += static_cast<int64_t>(item.file_size());
  }
  const fs::path config = path / "unet" / "config.json";
  const fs::path vae = path / "vae" / "config.json";
  if (!fs::exists(config)) return model;
  const models::UNetConfig unet = models::unet_config_from_json(io::read_file(config), config.string());
  model.family = family_name(unet);
  if (fs::exists(vae)) model.side = unet.sample_size * models::vae_config_from_json(io::read_file(vae), vae.string()).factor();
  return model;
}

ListedModel listed_file(const fs::path& path) {
  const DetectedModel detected = detect_single_file(path);
  const bool whole = std::ranges::find(detected.parts, "unet") != detected.parts.end();
  const io::TensorFile file = io::open_tensor_file(path);
  const auto licence = file.metadata().find("modelspec.license");
  return {path.stem().string(), path, whole ? family_name(detected.family.unet) : "no U-Net",
          static_cast<int64_t>(fs::file_size(path)), licence == file.metadata().end() ? "" : licence->second, detected.family.size};
}

}  // namespace

std::vector<fs::path> model_folders() {
  std::vector<fs::path> all;
  const char* own = std::getenv("EMULSION_MODELS");
  std::istringstream listed(own == nullptr ? "" : own);
  for (std::string folder; std::getline(listed, folder, ':');) all.emplace_back(folder);
  all.push_back(shipped_folder());
  all.push_back(users_folder());
  std::erase_if(all, [](const fs::path& folder) { return folder.empty() || !fs::is_directory(folder); });
  return all;
}

std::vector<ListedModel> listed_models() {
  std::vector<ListedModel> models;
  const auto add = [&](ListedModel model) {
    const auto same = [&](const ListedModel& other) { return other.name == model.name; };
    if (std::ranges::none_of(models, same)) models.push_back(std::move(model));
  };
  for (const fs::path& folder : model_folders()) {
    for (const auto& item : fs::directory_iterator(folder)) {
      try {
        if (is_model_folder(item.path())) add(listed_folder(item.path()));
        if (is_model_file(item.path())) add(listed_file(item.path()));
      } catch (const Error& error) {  // listed all the same: its owner looks for it
        const std::string what = error.what();
        add({item.path().stem().string(), item.path(), "cannot be read: " + what.substr(0, what.find(';')), 0, {}});
      }
    }
  }
  std::ranges::sort(models, {}, &ListedModel::name);
  return models;
}

ListedModel described(const fs::path& model) {
  const fs::path path = located(model);
  return is_model_folder(path) ? listed_folder(path) : listed_file(path);
}

std::optional<fs::path> found(const fs::path& model) {
  if (fs::exists(model)) return model;
  if (model.has_parent_path()) return std::nullopt;  // no plain name
  for (const fs::path& folder : model_folders()) {
    if (is_model_folder(folder / model)) return folder / model;
    for (const char* ending : {"", ".safetensors", ".ckpt", ".pt"}) {
      if (is_model_file(folder / (model.string() + ending))) return folder / (model.string() + ending);
    }
  }
  return std::nullopt;
}

fs::path located(const fs::path& model) {
  if (const auto path = found(model)) return *path;
  const bool plain_name = !model.has_parent_path();
  std::vector<std::string> names;
  for (const ListedModel& listed : plain_name ? listed_models() : std::vector<ListedModel>()) names.push_back(listed.name);
  const std::string meant = config::did_you_mean(model.string(), names);
  const char* check = plain_name ? "; check the path, or take a name that `emulsion models` lists" : "; check the path";
  throw Error(ErrorCode::not_found, fmt::format("[model] expected a model folder or a model file at '{}', found nothing{}",
                                                model.string(), meant.empty() ? check : meant));
}

}  // namespace emulsion::weights
