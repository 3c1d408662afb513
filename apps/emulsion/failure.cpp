#include "failure.h"

#include <c10/util/Exception.h>

#include <cstdio>
#include <new>

#include "io/jsonl.h"
#include "terminal.h"

namespace emulsion::app {
namespace {

/// The first line of a LibTorch message, without its stack.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool speaks_of_memory(const std::string& text) {
  for (const char* sign : {"out of memory", "can't allocate memory", "not enough memory"}) {
    if (text.find(sign) != text.npos) return true;
  }
  return false;
}

constexpr const char* kMemoryRemedy =
    "; use a smaller batch_size (with accumulate) or smaller pictures, or close other programs";

/// The exception in flight as an Error.
Error translated() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const c10::Error& error) {
    const std::string message = first_line(error.what_without_backtrace());
    if (speaks_of_memory(message)) return {ErrorCode::out_of_memory, message + kMemoryRemedy};
    return {ErrorCode::internal, "LibTorch: " + message + "; this is a bug, please report it"};
  } catch (const std::bad_alloc&) {
    return {ErrorCode::out_of_memory, std::string("[memory] no memory is left") + kMemoryRemedy};
  } catch (const std::exception& error) {
    return {ErrorCode::internal, std::string(error.what()) + "; this is a bug, please report it"};
  } catch (...) {
    return {ErrorCode::internal, "unknown exception; this is a bug, please report it"};
  }
}

}  // namespace

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::config:
      return 2;
    case ErrorCode::io:
      return 3;
    case ErrorCode::format:
      return 4;
    case ErrorCode::shape:
      return 5;
    case ErrorCode::not_found:
      return 6;
    case ErrorCode::unsupported:
      return 7;
    case ErrorCode::numeric:
      return 8;
    case ErrorCode::out_of_memory:
      return 9;
    case ErrorCode::cancelled:
      return 75;
    case ErrorCode::internal:
      return 70;
  }
  return 70;
}

std::string failure_text(const Error& error, bool colour) {
  const std::string message = error.what();
  if (error.code() == ErrorCode::cancelled) return message + "\n";
  const std::string label = colour ? "\x1b[1;31merror:\x1b[0m " : "error: ";
  const std::string hint = colour ? "\x1b[1mhint:\x1b[0m " : "hint: ";
  const size_t line_end = message.find('\n');
  const std::string first = message.substr(0, line_end);
  const std::string rest = line_end == message.npos ? "" : message.substr(line_end);
  const bool one_problem = rest.empty() || rest.starts_with("\n  while ");
  const size_t cut = one_problem ? first.rfind("; ") : first.npos;
  if (cut == first.npos) return label + message + "\n";
  return label + first.substr(0, cut) + rest + "\n" + hint + first.substr(cut + 2) + "\n";
}

int run_guarded(const std::function<int()>& work, bool json) {
  try {
    return work();
  } catch (...) {
    const Error error = translated();
    const bool on_terminal = stderr_has_colour();
    const std::string text = failure_text(error, on_terminal);
    std::fprintf(stderr, "%s%s", on_terminal ? "\r\x1b[K" : "", text.c_str());
    if (json) {
      const io::JsonFields event = {{"event", "error"},
                                    {"code", std::string(to_string(error.code()))},
                                    {"message", std::string(error.what())}};
      std::printf("%s\n", io::json_line(event).c_str());
    }
    return exit_code(error.code());
  }
}

}  // namespace emulsion::app
