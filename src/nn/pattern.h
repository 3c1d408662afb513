// Glob patterns over layer paths: how adapters choose their targets and initialisers their tensors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace emulsion::nn {

/// `*` matches any run of characters (dots too), `?` one; everything else matches itself.
bool glob_match(std::string_view pattern, std::string_view text);

/// Those of `names` that some pattern matches and no pattern with a leading '!' does.
/// Throws Error{not_found} naming a pattern that matches nothing, with a few names as examples.
std::vector<std::string> select(const std::vector<std::string>& patterns,
                                const std::vector<std::string>& names);

}  // namespace emulsion::nn
