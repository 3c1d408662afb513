#include "core/stop.h"

#include <unistd.h>

#include <csignal>

#include "core/error.h"

namespace emulsion {
namespace {

// The only things that a signal handler may touch.
volatile std::sig_atomic_t stop_wish = 0;
volatile std::sig_atomic_t interrupted = 0;

void on_signal(int signal) {
  if (signal == SIGINT && interrupted != 0) _exit(128 + SIGINT);
  if (signal == SIGINT) interrupted = 1;
  stop_wish = 1;
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reading and writing goes on as if nothing had happened
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) {
    EMULSION_CHECK(sigaction(signal, &action, nullptr) == 0, internal,
                   "cannot install the handler of signal {}", signal);
  }
}

bool stop_requested() { return stop_wish != 0; }
void request_stop() { stop_wish = 1; }
void clear_stop() {
  stop_wish = 0;
  interrupted = 0;
}

}  // namespace emulsion
