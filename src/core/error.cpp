#include "core/error.h"

namespace emulsion {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::config: return "config";
    case ErrorCode::io: return "io";
    case ErrorCode::format: return "format";
    case ErrorCode::shape: return "shape";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::numeric: return "numeric";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::internal: return "internal";
  }
  return "internal";
}

Error::Error(ErrorCode code, const std::string& message)
    : std::runtime_error(message), code_(code), message_(message) {}

Error& Error::add_context(const std::string& context) {
  message_ += "\n  while " + context;
  return *this;
}

}  // namespace emulsion
