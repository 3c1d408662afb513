// How a failure ends the program: one readable message, one exit code per kind.
#pragma once

#include <functional>
#include <string>

#include "core/error.h"

namespace emulsion::app {

/// config 2, io 3, format 4, shape 5, not_found 6, unsupported 7, numeric 8, out_of_memory 9,
/// internal 70, cancelled 75 (as in sysexits.h).
int exit_code(ErrorCode code);

/// Runs `work`. What it throws becomes "error: ..." on stderr, its remedy (what follows the last
/// ';') as "hint: ..." on a line of its own, with `json` also {"event": "error"} on stdout.
/// Exceptions of LibTorch and of the standard library count as internal, except lack of memory.
/// Returns the exit code: what `work` returned, or that of the failure.
int run_guarded(const std::function<int()>& work, bool json);

/// "error: <what>\nhint: <remedy>\n" of a message in the project's grammar "<what>; <remedy>".
/// Messages of several lines, each a problem of its own, stay as they are. What the user asked for
/// (cancelled) is no error: its message stands alone.
std::string failure_text(const Error& error, bool colour);

}  // namespace emulsion::app
