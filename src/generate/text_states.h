// From prompts to what the denoiser is told: text states, and for SDXL the pooled vector and the sizes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model.h"
#include "models/prompt.h"

namespace emulsion::generate {

enum class PromptSyntax { weighted, plain };

struct TextOptions {
  PromptSyntax syntax = PromptSyntax::weighted;
  /// n: the state n layers from the end, as A1111 counts (1: the last). Each model has a state that it was trained on, SD the
  /// last and SDXL the last but one; numbers up to that, and 0, mean it. SD norms the state, SDXL does not.
  int64_t clip_skip = 0;
  /// The first so many prompts are negative ones: where the model was trained so (Model::zeros_for_empty_prompt), empty ones
  /// give zeros.
  int64_t negatives = 0;
  /// Pixels of the picture, for models that are told its size (SDXL): original and target size, crop (0, 0), as diffusers.
  /// 0: the model's own.
  int64_t width = 0, height = 0;
  /// At least so many 77-token chunks.
  int64_t chunks = 1;
  /// Words with vectors of their own, for each encoder; see ActiveEmbeddings. Plain syntax knows them too.
  std::vector<std::vector<models::NamedTokens>> names = {};
};

/// How many 77-token chunks `text_states` would give these prompts.
int64_t chunk_count(const models::Model& model, const std::vector<std::string>& prompts, const TextOptions& options = {});

/// All prompts get the same number n of 77-token chunks; shorter ones are filled up with empty text. A chunk passes the
/// encoders by itself; `pooled` is that of the first.
///
/// Shapes:  B = prompts.size(): context [B, 77 n, D], D the width of all encoders together; pooled [B, P] with two encoders,
///          otherwise undefined; size_ids [B, 6] float32 if the U-Net reads them.
/// Weights scale a token's states in each encoder; then each chunk's mean is put back (as A1111 does). `pooled` has none.
/// Throws:  Error{not_found} for a missing encoder or tokenizer, Error{config} for a clip_skip beyond the layers.
models::Conditioning text_states(const models::Model& model, const std::vector<std::string>& prompts,
                                 const TextOptions& options = {});

/// [count, 6] float32 rows (height, width, top, left, height, width) for pictures drawn whole at a size.
Tensor size_ids(int64_t count, int64_t width, int64_t height);

}  // namespace emulsion::generate
