// The wish to stop: set by a signal, asked by every long loop.
#pragma once

namespace emulsion {

/// SIGINT and SIGTERM ask to stop; a second SIGINT ends the process at once.
void install_stop_handlers();

bool stop_requested();

/// For tests and for servers.
void request_stop();
void clear_stop();

}  // namespace emulsion
