// Pictures that do not train: how well the model predicts them, and whether it reads their captions.
#pragma once

#include <optional>

#include "core/progress.h"
#include "data/loader.h"
#include "train/config.h"
#include "train/method.h"

namespace emulsion::train {

struct Validated {
  double loss = 0;  // mean of Method::validation_losses over pictures and timesteps
  /// Share of the pictures that their own caption explains better (a lower loss, added over the timesteps) than the next
  /// picture's caption does. 0.5: the model does not read captions. None where there are none to read or to exchange.
  /// Source: the idea of Li et al. 2023, arXiv:2303.16203, with one wrong answer.
  std::optional<double> agreement;
};

/// The same pictures, noise and timesteps each time, so that differences are the model's.
class Validation {
 public:
  /// Finds the pictures. Throws Error{not_found} if there are none; what cannot be read is noted and left out.
  Validation(const RunConfig& config, Reporter& reporter);
  ~Validation();

  /// Throws Error{cancelled} when the user wishes to stop.
  Validated judge(const Method& method, Reporter& reporter) const;

 private:
  struct Pictures;
  std::vector<std::vector<int64_t>> batches() const;

  std::unique_ptr<Pictures> pictures_;
  std::vector<int64_t> chosen_;  // samples
  int64_t batch_size_, timesteps_;
};

}  // namespace emulsion::train
