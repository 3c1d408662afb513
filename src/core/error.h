// The one exception of the project, and the check macro that throws it.
//
// Message grammar: "[where] expected ..., got ...; hint", with the actual shapes, dtypes, keys and paths.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace emulsion {

/// What kind of failure it is. The command line turns it into an exit code, the server into a status.
enum class ErrorCode {
  config,         // the run file or an argument
  io,             // reading or writing: missing, unreadable, disk full
  format,         // a file whose content is not what its name says
  shape,          // tensors that do not fit together
  not_found,      // a name that matches nothing
  unsupported,    // known, and not built
  numeric,        // NaN or infinity where a number should be
  cancelled,      // the user asked to stop
  out_of_memory,  //
  internal,       // a bug of ours
};

/// The code's name as printed, e.g. "not_found".
const char* to_string(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message);

  ErrorCode code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

  /// Appends "\n  while <context>" so that the outermost reader sees the way to the failure.
  Error& add_context(const std::string& context);

 private:
  ErrorCode code_;
  std::string message_;
};

/// Runs `f`; an Error that leaves it carries "while <context>".
template <class F>
auto with_context(const std::string& context, F&& f) {
  try {
    return f();
  } catch (Error& error) {
    error.add_context(context);
    throw;
  }
}

}  // namespace emulsion

/// Throws Error{ErrorCode::code} with a formatted message unless `condition` holds.
#define EMULSION_CHECK(condition, code, ...)                                            \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      throw ::emulsion::Error(::emulsion::ErrorCode::code, ::fmt::format(__VA_ARGS__)); \
    }                                                                                   \
  } while (false)
