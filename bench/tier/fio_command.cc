#include "bench/tier/fio_command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "io/file.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

extern char** environ;

namespace cairn::bench {
namespace {

using FioJson = nlohmann::json;

const char* AccessName(Access access) {
  switch (access) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kRandRead:
      return "randread";
    case Access::kRandWrite:
      return "randwrite";
    case Access::kReadWrite:
      return "rw";
    case Access::kRandReadWrite:
      return "randrw";
  }
  return "?";
}

void AddJob(const FioJob& fio_job, double runtime_s, std::vector<std::string>& command) {
  const Job& job = *fio_job.job;
  const auto add = [&command](const auto&... parts) {
    command.push_back(absl::StrCat("--", parts...));
  };
  add("name=", job.name);
  add("filename=", absl::StrJoin(fio_job.files.paths, ":"));
  // Through the files as we go: one after the other, or all over them; never the header of one.
  add("file_service_type=", job.random() ? "random" : "sequential");
  add("offset=", fio_job.files.first_offset);
  add("rw=", AccessName(job.access));
  if (job.reads() && job.writes()) add("rwmixread=", job.read_percent);
  if (job.split.empty()) {
    add("bs=", job.block_bytes);
  } else {
    std::vector<std::string> parts;
    for (const SizeShare& share : job.split) {
      parts.push_back(absl::StrCat(share.bytes, "/", share.percent));
    }
    add("bssplit=", absl::StrJoin(parts, ":"));
  }
  add("iodepth=", job.depth);
  add("numjobs=", job.clones);
  if (job.polls_submissions) add("sqthread_poll=1");
  if (job.polls_completions) add("hipri=1");
  add("randseed=", job.seed);
  if (job.flushed_every() != 0) add("fdatasync=", job.flushed_every());
  // fio knows whole seconds and their thousandths by name.
  add("runtime=", absl::StrFormat("%.0fms", runtime_s * 1000));
  add("ramp_time=", absl::StrFormat("%.0fms", job.ramp_s * 1000));
}

// What a program said, short: fio's errors come before its JSON.
std::string Excerpt(const std::string& text) {
  constexpr size_t kBytesMax = 400;
  const size_t json = text.find("\n{");
  const std::string said = text.substr(0, json);
  const size_t begin = said.size() > kBytesMax ? said.size() - kBytesMax : 0;
  return std::string(absl::StripAsciiWhitespace(said.substr(begin)));
}

void AddFioDirection(const FioJson& job, const char* name, RunFigures::Direction& figures) {
  if (!job.contains(name)) return;
  const FioJson& direction = job[name];
  figures.bytes_per_s += direction.value("bw_bytes", 0.0);
  figures.ios_per_s += direction.value("iops", 0.0);
  for (size_t i = 0; i < figures.clat_ns.size(); ++i) {
    const FioJson::json_pointer at(
        absl::StrFormat("/clat_ns/percentile/%.6f", RunFigures::kPercentiles[i]));
    figures.clat_ns[i] = std::max(figures.clat_ns[i], direction.value(at, 0.0));
  }
}

// Everything that comes out of the descriptor until it ends.
std::string ReadAll(int fd) {
  std::string text;
  char part[65536];
  for (;;) {
    const ssize_t count = read(fd, part, sizeof(part));
    if (count > 0) {
      text.append(part, static_cast<size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      return text;
    }
  }
}

}  // namespace

std::vector<std::string> FioCommand(absl::Span<const FioJob> jobs, double runtime_s,
                                    const std::string& memory_path) {
  std::vector<std::string> command = {"fio", "--output-format=json"};
  bool writes = false;
  for (const FioJob& fio_job : jobs) writes = writes || fio_job.job->writes();
  if (!writes) command.emplace_back("--readonly");
  for (const char* word : {"--ioengine=io_uring", "--direct=1", "--fixedbufs=1",
                           "--registerfiles=1", "--time_based", "--thread"}) {
    command.emplace_back(word);
  }
  command.push_back(memory_path.empty() ? "--iomem=mmap"
                                        : absl::StrCat("--iomem=mmaphuge:", memory_path));
  for (const FioJob& fio_job : jobs) AddJob(fio_job, runtime_s, command);
  return command;
}

absl::StatusOr<FiguresByName> FioFigures(const std::string& output) {
  // Notes may come before it.
  const size_t begin = output.find('{');
  const FioJson json = begin == std::string::npos ? FioJson()
                                                  : FioJson::parse(output.substr(begin), nullptr,
                                                                   /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("jobs") || !json["jobs"].is_array()) {
    return absl::DataLossError(absl::StrCat("fio's output is not its JSON: ", Excerpt(output)));
  }
  FiguresByName by_name;
  for (const FioJson& job : json["jobs"]) {
    RunFigures& figures = by_name[job.value("jobname", "")];
    AddFioDirection(job, "read", figures.read);
    AddFioDirection(job, "write", figures.write);
    figures.cores += (job.value("usr_cpu", 0.0) + job.value("sys_cpu", 0.0)) / 100;
  }
  return by_name;
}

absl::StatusOr<std::string> RunCommand(const std::vector<std::string>& command) {
  int ends[2] = {};
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make", "a pipe");
  const FileDescriptor reading(ends[0]);
  FileDescriptor writing(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t child = -1;
  const int error = posix_spawnp(&child, words.front(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot run ", command.front(), ": ", std::strerror(error),
                     error == ENOENT ? " (is the package fio installed?)" : ""));
  }
  writing = FileDescriptor();
  std::string output = ReadAll(reading.get());
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return output;
  return absl::UnavailableError(absl::StrCat(command.front(), " failed: ", Excerpt(output)));
}

}  // namespace cairn::bench
