// Runs that last a second: a folder of small pictures, and configs that train on it.
#pragma once

#include <fstream>

#include "config/config.h"
#include "core/progress.h"
#include "core/stop.h"
#include "io/atomic_file.h"
#include "io/image.h"
#include "train/config.h"
#include "weights/tiny_model.h"

namespace emulsion::test {

/// `count` pictures of 16 x 16, each of a colour of its own with a darker square, named p0.png, p1.png, ...
inline std::filesystem::path write_pictures(const std::filesystem::path& folder, int64_t count = 6) {
  std::filesystem::create_directories(folder);
  for (int64_t i = 0; i < count; ++i) {
    Tensor picture = at::empty({16, 16, 3}, at::kByte);
    for (int64_t c = 0; c < 3; ++c) picture.select(2, c).fill_((40 + 50 * i + 70 * c) % 256);
    picture.narrow(0, i % 8, 6).narrow(1, 4, 6).fill_(30);
    io::write_png(folder / ("p" + std::to_string(i) + ".png"), picture);
    std::ofstream(folder / ("p" + std::to_string(i) + ".txt")) << "thing number " << i;
  }
  return folder;
}

/// An autoencoder run on one thread, without previews.
inline train::RunConfig tiny_run(const std::filesystem::path& folder) {
  train::RunConfig config;
  config.output = (folder / "runs").string();
  config.seed = 3;
  config.steps = 6;
  config.batch_size = 2;
  config.threads = 1;
  config.loader_threads = 0;
  config.method = train::AutoencoderMethod{};
  config.model.architecture = tiny_architecture();
  config.data.resolution = 16;
  config.data.buckets = false;
  data::SourceConfig source;
  source.path = (folder / "pictures").string();
  config.data.sources = {source};
  config.optimizer = optim::AdamWConfig{.lr = 1e-3};
  config.preview.every = 0;
  config.checkpoint.every = 0;
  return config;
}

/// For methods that get their model in memory.
inline train::RunConfig in_memory(train::MethodConfig method) {
  train::RunConfig config = tiny_run("unused");
  config.method = std::move(method);
  return config;
}

inline std::string bytes_of(const std::filesystem::path& file) { return io::read_file(file); }

/// Wishes to stop once so many steps are done.
class StopAfter : public Reporter {
 public:
  explicit StopAfter(int64_t steps) : steps_(steps) {}
  void begin(const std::string& what, int64_t, const std::string&, int64_t) override { training_ = what == "Training"; }
  void advance(int64_t done, const Figures&) override {
    if (training_ && done == steps_) request_stop();
  }

 private:
  int64_t steps_;
  bool training_ = false;
};

}  // namespace emulsion::test
