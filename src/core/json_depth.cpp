#include "core/json_depth.h"

#include "core/error.h"

namespace emulsion {

void check_json_depth(std::string_view json, std::string_view file) {
  constexpr int kMaxJsonDepth = 100;
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      if (c == '\\') ++i;
      in_text = c != '"';
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      EMULSION_CHECK(++depth <= kMaxJsonDepth, format,
                     "[{}] byte {}: expected JSON nested at most {} deep, got more; the file is "
                     "damaged or hostile",
                     file, i, kMaxJsonDepth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace emulsion
