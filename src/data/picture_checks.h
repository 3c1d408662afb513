// Whether every pixel of every picture can be read.
#pragma once

#include "core/progress.h"
#include "data/index.h"

namespace emulsion::data {

/// Decodes every picture in `threads` threads and notes its content's hash; those that fail move from samples to problems. What
/// `known`, the samples of an earlier index, holds in the same state is good, and is not looked at again. Throws Error{cancelled}
/// when the user wishes to stop: the index then holds the pictures that are known as good by now.
void check_pictures(Index& index, Reporter& reporter, const SampleList& known = {}, int threads = 2);

}  // namespace emulsion::data
