#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace cairn {

struct ProcessEnd {
  int exit_code = -1;  // -1 when a signal ended it.
  int signal = 0;
  std::string out;
  std::string err;
};

// A program under test, its output caught in files of `directory`. Killed when it is still there
// at the end.
class Process {
 public:
  Process(const std::string& directory, const std::vector<std::string>& command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // False when the process ends without having said `text` on standard error.
  bool WaitUntilSaid(const std::string& text);
  void Signal(int signal);
  ProcessEnd Wait();

 private:
  bool Running();

  const std::string out_path_;
  const std::string err_path_;
  pid_t pid_ = -1;  // -1 once it has been waited for.
  int wait_status_ = 0;
};

std::string ReadWholeFile(const std::string& path);

}  // namespace cairn
