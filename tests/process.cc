#include "tests/process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "src/base/check.h"

namespace cairn {
namespace {

[[noreturn]] void Become(const std::vector<char*>& arguments, int out_fd, int err_fd) {
  dup2(out_fd, STDOUT_FILENO);
  dup2(err_fd, STDERR_FILENO);
  execv(arguments.front(), arguments.data());
  _exit(127);
}

int OpenOutput(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CAIRN_CHECK(fd >= 0);
  return fd;
}

}  // namespace

Process::Process(const std::string& directory, const std::vector<std::string>& command)
    : out_path_(directory + "/process.out"), err_path_(directory + "/process.err") {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const int out_fd = OpenOutput(out_path_);
  const int err_fd = OpenOutput(err_path_);
  pid_ = fork();
  CAIRN_CHECK(pid_ >= 0);
  if (pid_ == 0) Become(arguments, out_fd, err_fd);
  close(out_fd);
  close(err_fd);
}

Process::~Process() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool Process::Running() {
  if (pid_ < 0) return false;
  if (waitpid(pid_, &wait_status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ >= 0;
}

bool Process::WaitUntilSaid(const std::string& text) {
  for (;;) {
    const bool running = Running();
    // Read after the look at the process: its last words count.
    if (ReadWholeFile(err_path_).find(text) != std::string::npos) return true;
    if (!running) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void Process::Signal(int signal) {
  if (pid_ >= 0) kill(pid_, signal);
}

ProcessEnd Process::Wait() {
  if (pid_ >= 0) waitpid(pid_, &wait_status_, 0);
  pid_ = -1;
  ProcessEnd end;
  if (WIFEXITED(wait_status_)) end.exit_code = WEXITSTATUS(wait_status_);
  if (WIFSIGNALED(wait_status_)) end.signal = WTERMSIG(wait_status_);
  end.out = ReadWholeFile(out_path_);
  end.err = ReadWholeFile(err_path_);
  return end;
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace cairn
