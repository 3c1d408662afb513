// Runs a method on recorded inputs: how anyone can compare us, number for number, with another trainer.
#pragma once

#include "core/tensor.h"
#include "io/safetensors.h"
#include "train/config.h"
#include "train/method.h"

namespace emulsion::train {

/// For k = 0, 1, ...: reads `step.{k}.latents` (scaled), `.noise`, `.timesteps`, `.context` or `.input_ids`; gives
/// `step.{k}.prediction`, `.loss` and `.grad.{name}` of every tensor that trains. With `update` it also takes the
/// optimizer steps of the config and adds `final.{name}`, and `step.{k}.grad_norm`.
/// Throws: Error{not_found} naming the first tensor that the recording lacks.
NamedTensors replay(const RunConfig& config, Method& method, const io::SafetensorsFile& recording, bool update);

}  // namespace emulsion::train
