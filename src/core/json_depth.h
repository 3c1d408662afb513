// A guard in front of JSON from files: the library that reads it prints and compares by recursion.
#pragma once

#include <string_view>

namespace emulsion {

/// Throws: Error{format} if brackets nest more than 100 deep; the files of this field need 10.
/// `file` is for messages.
void check_json_depth(std::string_view json, std::string_view file);

}  // namespace emulsion
