// Preloaded into a program: a signal a millisecond that interrupts its system calls.

#include <sys/time.h>

#include <csignal>

namespace {

__attribute__((constructor)) void StartInterrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // And no SA_RESTART.
  sigaction(SIGALRM, &action, nullptr);
  const itimerval storm = {.it_interval = {0, 1000}, .it_value = {0, 1000}};
  setitimer(ITIMER_REAL, &storm, nullptr);
}

}  // namespace
